"""Rewrites what the reference says of the code: its blocks from ``<!-- of the code: … -->`` to ``<!-- end -->``.

What a block says stands where the thing is declared: types, defaults, docstrings, help of arguments. The pages keep a
copy of it, so that they read as well on a code forge; ``make docs`` renews it, and a test holds that it is new.
"""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import MISSING, Field, fields
from pathlib import Path
from textwrap import dedent, fill
from typing import TYPE_CHECKING, Any, get_type_hints

import django
from django.conf import settings
from django.core.management import load_command_class

import entitlement_gate
from entitlement_gate.check_messages import Check
from entitlement_gate.conf import Settings, known_keys
from entitlement_gate.domain import errors
from entitlement_gate.domain.decisions import Decision, Outcome, Reason, RequestFault
from entitlement_gate.engine.options import GateOptions
from entitlement_gate.refusals import status_of
from entitlement_gate.resilience.redis_url import OPTIONS
from entitlement_gate.zenskar.client_options import ClientOptions

if TYPE_CHECKING:
    from argparse import Action, ArgumentParser
    from collections.abc import Callable, Iterable
    from enum import Enum

DOCS = Path(__file__).parent.parent
_BLOCK = re.compile(r"(<!-- of the code: (\w+)\b\s*(.*?)\s*-->\n)(.*?)(<!-- end -->\n)", re.DOTALL)
_NAME = re.compile("`([a-z_]+)`")
_NONE = "\N{EN DASH}"
_ON_EVERY_ACTION = {"--help", "--no-color", "--force-color", "--format"}


def renew(text: str) -> str:
    """Return a page, with each of its blocks as the code has it now."""
    return _BLOCK.sub(lambda found: f"{found[1]}\n{_WRITERS[found[2]](*found[3].split())}\n\n{found[5]}", text)


def _write_settings(*keys: str) -> str:
    return _table("key", "type", "default", "meaning", rows=map(_read_setting, keys))


def _read_setting(key: str) -> tuple[str, ...]:
    """Return what is said of a key, by each class that takes it where they say different things."""
    name = key.lower()
    taking = [cls for cls in (Settings, ClientOptions, GateOptions) if name in _attributes_of(cls)]
    said = "; ".join(dict.fromkeys(_attributes_of(cls)[name][1] for cls in taking))
    field = next(field for field in fields(taking[0]) if field.name == name)
    return f"`{key}`", _attributes_of(taking[0])[name][0], f"`{_default_of(field)}`", _NAME.sub(_name_key, said)


def _name_key(found: re.Match[str]) -> str:
    """Return the key for an option that a docstring names, as it stands there in lower case."""
    return found[0].upper() if found[1].upper() in known_keys() else found[0]


def _default_of(field: Field[Any]) -> str:
    value = field.default if field.default_factory is MISSING else field.default_factory()
    return repr(value).replace("'", '"')


def _write_redis_options() -> str:
    unix, tcp, tls = (OPTIONS[scheme] for scheme in ("unix", "redis", "rediss"))
    lists = {
        "everywhere": unix,
        "but for `unix://`": tcp.keys() - unix.keys(),
        "for `rediss://`": tls.keys() - tcp.keys(),
    }
    lines = (f"- {where}: {', '.join(f'`{name}`' for name in sorted(names))}" for where, names in lists.items())
    return "\n".join(fill(line, 120, subsequent_indent="  ", break_on_hyphens=False) for line in lines)


def _write_fields(name: str) -> str:
    attributes = _attributes_of(getattr(entitlement_gate, name))
    return _table("field", "type", "meaning", rows=((f"`{each}`", *said) for each, said in attributes.items()))


def _write_functions(*names: str) -> str:
    return _table("function, async twin", "does", rows=map(_read_function, names))


def _read_function(name: str) -> tuple[str, ...]:
    function = getattr(entitlement_gate, name)
    signature = inspect.signature(function)
    parameters = [each.replace(annotation=each.empty) for each in signature.parameters.values()]
    shown = str(signature.replace(parameters=parameters)).replace("'", "")  # annotations are texts
    does = _markdown(inspect.cleandoc(function.__doc__).partition("\n\n")[0])
    return f"`{name}{shown}`, `a{name}`", does


def _write_reasons() -> str:
    rows = ((f"`{each}`", str(each.outcome), _status(each), said) for each, said in _members_of(Reason))
    return _table("reason", "outcome", "status", "when", rows=rows)


def _write_faults() -> str:
    rows = ((f"`{each}`", _status(each), said) for each, said in _members_of(RequestFault))
    return _table("reason", "status", "when", rows=rows)


def _status(reason: Reason | RequestFault) -> str:
    return _NONE if reason.outcome is Outcome.ALLOWED else str(status_of(Decision.of(reason, ""), {}))


def _write_tree() -> str:
    tree = str(errors.__doc__).partition("::\n\n")[2].partition("\n\n")[0]
    return f"```text\n{dedent(tree)}\n```"


def _write_errors() -> str:
    classes = filter(inspect.isclass, (getattr(errors, name) for name in errors.__all__))
    in_tree = sorted(classes, key=lambda cls: str(errors.__doc__).index(f" {cls.__name__}"))
    return _table("error", "raised by", "when", rows=map(_read_error, in_tree))


def _read_error(cls: type) -> tuple[str, ...]:
    said = _markdown(inspect.cleandoc(str(cls.__doc__)).partition("\n\nAttributes:")[0])
    when, _, raised_by = said.partition(" Raised by ")
    return f"`{cls.__name__}`", raised_by or _NONE, when.removesuffix(".")


def _write_checks() -> str:
    rows = ((f"`{check.id}`", finding, check.value) for check, finding in _members_of(Check))
    return _table("id", "says", "do", rows=rows)


def _write_actions() -> str:
    rows = ((f"`{name}`", _arguments_of(action), str(action.description)) for name, action in _actions().items())
    return _table("action", "arguments", "does", rows=rows)


def _write_arguments(name: str) -> str:
    rows = ((f"`{_usage_of(each)}`", _markdown(each.help or "")) for each in _own_arguments(_actions()[name]))
    return _table("argument", "does", rows=rows)


def _actions() -> dict[str, ArgumentParser]:
    parser = load_command_class("entitlement_gate", "entitlements").create_parser("manage.py", "entitlements")
    return next(dict(each.choices) for each in _arguments(parser) if isinstance(each.choices, dict))


def _arguments(parser: ArgumentParser) -> list[Action]:
    return parser._actions  # noqa: SLF001 - argparse has no other way


def _own_arguments(action: ArgumentParser) -> list[Action]:
    return [each for each in _arguments(action) if not _ON_EVERY_ACTION & {*each.option_strings}]


def _arguments_of(action: ArgumentParser) -> str:
    return " ".join(f"`{_usage_of(each)}`" for each in _own_arguments(action))


def _usage_of(argument: Action) -> str:
    """Return an argument as usage shows it: ``NAME``, ``[QUANTITY]``, ``CUSTOMER …``, ``--limit N``."""
    if argument.option_strings:
        return f"{argument.option_strings[-1]} {argument.metavar or ''}".strip()
    shown = {"?": "[{}]", "*": "[{} …]", "+": "{} …"}.get(str(argument.nargs), "{}")
    return shown.format(argument.metavar)


def _attributes_of(cls: type) -> dict[str, tuple[str, str]]:
    """Return the type of each attribute that the docstring of a class names, in words of the page, and what it says.

    The type is that of the annotation, where the docstring gives none. Alternatives are words: ``|`` ends a cell.
    """
    section = inspect.cleandoc(str(cls.__doc__)).partition("\nAttributes:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^    (\w+)(?: \((.+)\))?: (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    hints = get_type_hints(cls)
    return {name: (_spell(said or hints[name]), _markdown(text)) for name, said, text in found}


def _spell(hint: Any) -> str:
    text = hint.__name__ if isinstance(hint, type) else str(hint)
    return f"`{re.sub(r' [|] (?![^[]*[]])', '` or `', re.sub(r'[a-z_.]+[.](?=[A-Za-z])', '', text))}`"


def _members_of(cls: type[Enum]) -> list[tuple[Any, str]]:
    """Return the members of an enumeration with the text that stands below each."""
    body = next(each for each in ast.walk(ast.parse(dedent(inspect.getsource(cls)))) if isinstance(each, ast.ClassDef))
    texts = (
        each.value.value
        for each in body.body[1:]
        if isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant)
    )
    return [(member, _markdown(str(text))) for member, text in zip(cls, texts, strict=True)]


def _markdown(text: str) -> str:
    """Return a docstring's text for a cell: one line, which ends as a cell does."""
    return re.sub(r"\s+", " ", text.replace("``", "`")).strip().removesuffix(".")


def _table(*heads: str, rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


_WRITERS: dict[str, Callable[..., str]] = {
    "settings": _write_settings,
    "redis_options": _write_redis_options,
    "fields": _write_fields,
    "functions": _write_functions,
    "reasons": _write_reasons,
    "faults": _write_faults,
    "tree": _write_tree,
    "errors": _write_errors,
    "checks": _write_checks,
    "actions": _write_actions,
    "arguments": _write_arguments,
}

if __name__ == "__main__":
    settings.configure(INSTALLED_APPS=["entitlement_gate"], ENTITLEMENT_GATE={"BASE_URL": "sandbox:"})
    django.setup()
    for page in sorted(DOCS.rglob("*.md")):
        before = page.read_text(encoding="utf-8")
        after = renew(before)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(f"renewed: {page.relative_to(DOCS.parent)}")

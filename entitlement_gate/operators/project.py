"""What a project asks for, as its settings, its code and its templates say: read, neither run nor imported."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core.checks import ERROR, WARNING, run_checks
from django.template import engines
from django.template.backends.django import DjangoTemplates
from django.template.base import Lexer, TokenType

from entitlement_gate.conf import get_settings
from entitlement_gate.decorators import find_api_view_function
from entitlement_gate.operators.doctor import Finding, NameInCode
from entitlement_gate.url_rules import class_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from django.core.checks import CheckMessage


__all__ = ["TagUse", "find_calls", "find_names", "find_settings_problems", "find_template_uses", "locate"]

_TAG = "entitlement_gate"


def find_settings_problems() -> Iterator[Finding]:
    """Yield what the system checks say of this library's settings."""
    messages = run_checks(tags=[_TAG])
    for message in messages:
        yield _to_finding(message)
    if not messages:
        yield Finding("ok", "settings", "the system checks find nothing")


def find_names() -> Iterator[NameInCode]:
    """Yield every literal name in settings and plain calls; those of gates are found in ``gates``."""
    yield from _find_names_in_settings()
    yield from find_calls(_list_own_folders())


def _to_finding(message: CheckMessage) -> Finding:
    level = message.level
    word = "error" if level >= ERROR else "warning" if level >= WARNING else "note"
    return Finding(word, "settings", str(message.msg), str(message.hint or ""), message.id)  # type: ignore[arg-type]  # one of the words


def _find_names_in_settings() -> Iterator[NameInCode]:
    options = get_settings().gate
    for key in ("aliases", "on_unavailable", "on_exhausted", "null_quantity", "shadow", "usage"):
        value = getattr(options, key)
        names = value if isinstance(value, Mapping) or (key == "shadow" and not isinstance(value, bool)) else ()
        for name in names:
            if name != "*":
                yield NameInCode(name, f"ENTITLEMENT_GATE[{key.upper()!r}]")


def _list_own_folders() -> list[Path]:
    """Return the folders of the project's own apps: not of what is installed, nor this library's."""
    installed = {Path(sysconfig.get_paths()[key]).resolve() for key in ("purelib", "platlib", "stdlib")}
    folders = [Path(config.path).resolve() for config in apps.get_app_configs() if config.name != _TAG]
    return [folder for folder in folders if not installed.intersection(folder.parents)]


_FIRST = frozenset({"Requirement", "requires_entitlement", "consumes_entitlement"})  # others take a customer before it
_FUNCTIONS = re.compile("|".join((r"a?(?:has|check|require|reserve|consume)_entitlement", *_FIRST)))
_CALL_TRACE = re.compile(rb"_entitlement\b|\bRequirement\b")
_SKIPPED = frozenset({"node_modules", "site-packages", "__pycache__"})


def find_calls(folders: Iterable[Path]) -> Iterator[NameInCode]:
    """Yield every literal name in a call of ours, in the Python files of the folders."""
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            if not _SKIPPED.intersection(path.relative_to(folder).parts):
                yield from _find_calls_in_file(path)


def _find_calls_in_file(path: Path) -> Iterator[NameInCode]:
    content = path.read_bytes()
    if not _CALL_TRACE.search(content):
        return
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):  # not written for this Python
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (name := _read_entitlement(node)):
            yield NameInCode(name, f"{shorten_path(path)}:{node.lineno}")


def _read_entitlement(call: ast.Call) -> str | None:
    """Return the literal that a call of ours has for the entitlement."""
    function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if not _FUNCTIONS.fullmatch(function):
        return None
    place = 0 if function in _FIRST else 1
    arguments = [call.args[place]] if len(call.args) > place else []
    arguments += [keyword.value for keyword in call.keywords if keyword.arg == "entitlement"]
    value = arguments[0].value if arguments and isinstance(arguments[0], ast.Constant) else None
    return value if isinstance(value, str) else None


_TAG_TRACE = b"ntitle"  # in every use: entitled, ifentitled, entitlement
_TAGS = frozenset({"ifentitled", "entitlement"})
_JINJA_SILENT = re.compile(r"\{#.*?#\}|\{%[-+]?\s*raw\s*[-+]?%\}.*?\{%[-+]?\s*endraw\s*[-+]?%\}", re.DOTALL)
_JINJA_CALL = re.compile(r"\b(entitled|entitlement)\(\s*([^\s,)][^,)]*?)\s*(?:,\s*([^)]*?)\s*)?\)")


@dataclass(frozen=True, slots=True)
class TagUse:
    """One use in a template.

    Attributes:
        by: the tag or function.
        name: the entitlement; None where an expression gives it.
        arguments: what stands there, quantity included.
        where: ``file:line``.
    """

    by: str
    name: str | None
    arguments: str
    where: str


def find_template_uses() -> Iterator[TagUse]:
    """Yield every use in the templates of the project and its apps, file by file.

    Reads the files that the configured engines would find; renders none, and loads no tag library by itself.
    """
    for engine in engines.all():
        read = _read_django_template if isinstance(engine, DjangoTemplates) else _read_jinja_template
        for path in _list_files(engine):
            content = path.read_bytes()
            if _TAG_TRACE in content:
                yield from read(content.decode("utf-8", "replace"), shorten_path(path))


def _list_files(engine: Any) -> Iterator[Path]:
    directories = list(engine.template_dirs)
    if isinstance(engine, DjangoTemplates):
        directories += _list_loader_dirs(engine.engine.template_loaders)
    for directory in dict.fromkeys(Path(directory) for directory in directories):
        yield from sorted(path for path in directory.rglob("*") if path.is_file())


def _list_loader_dirs(loaders: Any) -> Iterator[Any]:
    for loader in loaders:
        yield from loader.get_dirs() if hasattr(loader, "get_dirs") else ()
        yield from _list_loader_dirs(getattr(loader, "loaders", ()))


def _read_django_template(source: str, path: str) -> Iterator[TagUse]:
    is_comment = False
    for token in Lexer(source).tokenize():
        name = token.contents.partition(" ")[0] if token.token_type is TokenType.BLOCK else ""
        is_comment = name == "comment" or (is_comment and name != "endcomment")
        if is_comment or name not in _TAGS:
            continue
        tag, *words = token.split_contents()
        words = words[: words.index("as")] if "as" in words else words
        if words:
            yield TagUse(f"{{% {tag} %}}", _read_literal(words[0]), " ".join(words), f"{path}:{token.lineno}")


def _read_jinja_template(source: str, path: str) -> Iterator[TagUse]:
    source = _JINJA_SILENT.sub(lambda match: "\n" * match[0].count("\n"), source)
    for call in _JINJA_CALL.finditer(source):
        line = source.count("\n", 0, call.start()) + 1
        arguments = f"{call[2]} {call[3] or ''}".strip()
        yield TagUse(f"{call[1]}()", _read_literal(call[2]), arguments, f"{path}:{line}")


def _read_literal(text: str) -> str | None:
    is_quoted = len(text) > 1 and text[0] in "\"'" and text[-1] == text[0]
    return text[1:-1] if is_quoted else None


def locate(view: Any) -> str:
    """Return where a view function or class is written; its module where that is unknown."""
    view = _unwrap(view)
    code = getattr(view, "__code__", None)
    if code is not None:
        return f"{shorten_path(code.co_filename)}:{code.co_firstlineno}"
    try:
        source, line = inspect.getsourcefile(view), inspect.getsourcelines(view)[1]
    except (TypeError, OSError):
        return str(getattr(view, "__module__", None) or type(view).__module__)
    return f"{shorten_path(source or '')}:{line}"


def shorten_path(path: str | Path) -> str:
    """Return the path from here, where it is beneath; otherwise as it is."""
    try:
        return str(Path(path).resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _unwrap(view: Any) -> Any:
    """Return what a person would look for: the class behind ``as_view()``, the function behind decorators."""
    view_class = class_of(view)
    if isinstance(view_class, type) and find_api_view_function(view_class) is None:
        return view_class
    view = find_api_view_function(view_class) or view
    while isinstance(view, functools.partial):
        view = view.func
    view = inspect.unwrap(view)
    return getattr(view, "__func__", view)

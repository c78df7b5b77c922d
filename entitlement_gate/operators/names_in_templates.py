"""Gates in templates: ``{% ifentitled %}``, ``{% entitlement %}`` and Jinja2's ``entitled()``, found without rendering.

Reads the files that the configured engines would find; loads no tag library by itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.template import engines
from django.template.backends.django import DjangoTemplates
from django.template.base import Lexer, TokenType

from entitlement_gate.operators.places import short

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "TagUse",
    "template_uses",
]


_TRACE = b"ntitle"  # in every use: entitled, ifentitled, entitlement
_TAGS = frozenset({"ifentitled", "entitlement"})
_JINJA_SILENT = re.compile(r"\{#.*?#\}|\{%[-+]?\s*raw\s*[-+]?%\}.*?\{%[-+]?\s*endraw\s*[-+]?%\}", re.DOTALL)
_JINJA_CALL = re.compile(r"\b(entitled|entitlement)\(\s*([^\s,)][^,)]*?)\s*(?:,\s*([^)]*?)\s*)?\)")


@dataclass(frozen=True, slots=True)
class TagUse:
    """One use in a template.

    Attributes:
        by: the tag or function.
        name: the entitlement; None where an expression gives it.
        asked: what stands there, quantity included.
        where: ``file:line``.
    """

    by: str
    name: str | None
    asked: str
    where: str


def template_uses() -> Iterator[TagUse]:
    """Yield every use in the templates of the project and its apps, file by file."""
    for engine in engines.all():
        read = _django_uses if isinstance(engine, DjangoTemplates) else _jinja_uses
        for path in _files(engine):
            content = path.read_bytes()
            if _TRACE in content:
                yield from read(content.decode("utf-8", "replace"), short(path))


def _files(engine: Any) -> Iterator[Path]:
    directories = list(engine.template_dirs)
    if isinstance(engine, DjangoTemplates):
        directories += _loader_dirs(engine.engine.template_loaders)
    for directory in dict.fromkeys(Path(directory) for directory in directories):
        yield from sorted(path for path in directory.rglob("*") if path.is_file())


def _loader_dirs(loaders: Any) -> Iterator[Any]:
    for loader in loaders:
        yield from loader.get_dirs() if hasattr(loader, "get_dirs") else ()
        yield from _loader_dirs(getattr(loader, "loaders", ()))


def _django_uses(source: str, path: str) -> Iterator[TagUse]:
    is_comment = False
    for token in Lexer(source).tokenize():
        name = token.contents.partition(" ")[0] if token.token_type is TokenType.BLOCK else ""
        is_comment = name == "comment" or (is_comment and name != "endcomment")
        if is_comment or name not in _TAGS:
            continue
        tag, *asked = token.split_contents()
        asked = asked[: asked.index("as")] if "as" in asked else asked
        if asked:
            yield TagUse(f"{{% {tag} %}}", _literal(asked[0]), " ".join(asked), f"{path}:{token.lineno}")


def _jinja_uses(source: str, path: str) -> Iterator[TagUse]:
    source = _JINJA_SILENT.sub(lambda silent: "\n" * silent[0].count("\n"), source)
    for call in _JINJA_CALL.finditer(source):
        line = source.count("\n", 0, call.start()) + 1
        asked = f"{call[2]} {call[3] or ''}".strip()
        yield TagUse(f"{call[1]}()", _literal(call[2]), asked, f"{path}:{line}")


def _literal(text: str) -> str | None:
    is_quoted = len(text) > 1 and text[0] in "\"'" and text[-1] == text[0]
    return text[1:-1] if is_quoted else None

"""Builds the documentation site into ``build/docs``: offline, and strictly, so that a warning fails.

The pages are written for a code forge. Sphinx gets a copy of them, with what the two see differently put right: links
that leave ``docs/``, HTML anchors, and the order of the pages, which ``docs/index.md`` gives as lists. The reference of
the code is made of its docstrings and annotations.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from enum import Enum
from hashlib import sha256
from importlib import import_module
from inspect import isroutine
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from sphinx.cmd.build import main as sphinx

import entitlement_gate

HERE = Path(__file__).parent
DOCS = HERE.parent
ROOT = DOCS.parent
# Pages that stand outside ``docs/``, and their names in the site.
BESIDE = {ROOT / f"{name.upper()}.md": f"{name}.md" for name in ("changelog", "contributing", "security")}
# The pages about the code: their modules and names, where it is not all that a module lists in ``__all__``. What the
# root exports is documented as of the root.
PYTHON: dict[str, dict[str, str]] = {
    "Functions": {
        "entitlement_gate": "has_entitlement ahas_entitlement check_entitlement acheck_entitlement require_entitlement"
        " arequire_entitlement get_entitlements aget_entitlements reserve_entitlement areserve_entitlement"
        " consume_entitlement aconsume_entitlement invalidate_entitlements ainvalidate_entitlements",
    },
    "Decisions": {"entitlement_gate": "Decision Outcome Reason"},
    "Entitlements": {"entitlement_gate": "CustomerEntitlements Entitlement EntitlementType Grant Snapshot"},
    "Gate": {"entitlement_gate": "EntitlementGate"},
    "Requirements and reservations": {"entitlement_gate": "Requirement Reservation"},
    "Client": {"entitlement_gate": "ZenskarClient"},
    "Errors": {"entitlement_gate.domain.errors": ""},
    "Options": {
        "entitlement_gate.zenskar.client_options": "ClientOptions",
        "entitlement_gate.engine.options": "GateOptions",
        "entitlement_gate.conf": "Settings",
    },
    "Gates of views": {
        "entitlement_gate": "requires_entitlement entitlement_exempt",
        "entitlement_gate.decorators": "requirements_of",
        "entitlement_gate.mixins": "",
        "entitlement_gate.routing": "",
    },
    "Requests and responses": {
        "entitlement_gate.middleware": "",
        "entitlement_gate.request_entitlements": "RequestEntitlements",
        "entitlement_gate.resolvers": "from_user afrom_user",
        "entitlement_gate.responses": "denied problem_details prefers_json status_of upgrade_url_of",
        "entitlement_gate.context_processors": "entitlements",
    },
    "Signals, metrics, webhooks": {
        "entitlement_gate.signals": "entitlement_checked entitlement_denied entitlements_refreshed source_failed",
        "entitlement_gate.metrics": "Observer observe unobserve flush_observers Fetch LedgerCall",
        "entitlement_gate.webhooks": "StandardWebhooks",
    },
    "Ledger protocol": {
        "entitlement_gate.ledger.protocol": "Ledger Outbox Demand Receipt Refusal State Charges UsageEvent UsageTarget"
        " DeadLetter LedgerUnavailable LedgerLost LedgerOverflow",
    },
    "Ledgers in memory and Redis": {
        "entitlement_gate.ledger.memory": "MemoryLedger",
        "entitlement_gate.ledger.redis": "RedisLedger",
    },
    "Ledger in the database": {
        "entitlement_gate.usage.ledger": "DatabaseLedger",
    },
    "Sandbox": {"entitlement_gate.sandbox": ""},
    "Testing": {"entitlement_gate.testing": ""},
    **{
        f"contrib.{path.stem}": {f"entitlement_gate.contrib.{path.stem}": ""}
        for path in sorted((ROOT / "entitlement_gate" / "contrib").glob("[!_]*.py"))
    },
}
# What assistive technology needs and the theme leaves out: levels of headings, names of landmarks, parts that scroll
# reached by key, and no list of definitions that defines nothing. Options of commands, in one piece. No names
# of icons, whose buttons have their own: Sphinx marks the words of a search in them, and fails. And no marks that no
# style is about, half of a page of signatures.
BETTER = [
    (r'(<p class="caption" role="heading")>', r'\1 aria-level="2">'),
    (r'<aside class="sidebar-drawer">', r'<aside class="sidebar-drawer" aria-label="All pages">'),
    (r'<aside class="toc-drawer(| no-toc)">', r'<aside class="toc-drawer\1" aria-label="This page">'),
    (r'<div id="search-results">', r'<h1>Search</h1>\n<div id="search-results">'),
    (r"<pre>", r'<pre tabindex="0">'),
    (r"(<symbol[^>]*>)\s*<title>[^<]*</title>", r"\1"),
    (r'<div class="table-wrapper([^"]*)">', r'<div class="table-wrapper\1" tabindex="0">'),
    (r'<span class="(?:pre|w)">([^<]*)</span>', r"\1"),
    (r'<code class="docutils literal notranslate">(--[^<]{1,24})</code>', r'<code class="literal option">\1</code>'),
    (r"<dl>\n((?:<dd>.*</dd>\n?)+)</dl>", r'<span class="parameters">\1</span>'),
    (r"<dd>(<em class=\"sig-param\">.*)</dd>", r"<span>\1</span>"),
]
# The index of the search as Sphinx's script takes it, of what `lighten_search` makes of it.
UNPACK = r"""Search.setIndex(((letters, index) => {
  const numbers = (pages) => [...pages].map((page) => letters.indexOf(page))
  const anchor = (title) => title.toLowerCase().replaceAll(" ", "-").replace(/[^a-z0-9_-]/g, "")
  const object = ([page, kind, priority, ...name]) => {
    const isModule = name.at(-1) === "-"
    return [letters.indexOf(page), +kind, +priority, isModule ? "-" : "", name.join("").replace("-", "")]
  }
  for (const key of ["terms", "titleterms"]) {
    const packed = index[key].matchAll(/(\S+) (\S+)/g)
    index[key] = Object.fromEntries([...packed].map(([, word, pages]) => [word, numbers(pages)]))
  }
  for (const [title, places] of Object.entries(index.alltitles))
    index.alltitles[title] = [places].flat().map((place) => place.at ? place : [place, anchor(title)])
  for (const [prefix, packed] of Object.entries(index.objects)) index.objects[prefix] = packed.split(" ").map(object)
  index.filenames = index.docnames
  return index
})(LETTERS, INDEX))
"""
# Of a class that other parts of the library use too, what is for everybody.
MEMBERS = {
    "EntitlementGate": "has, ahas, check, acheck, require, arequire, get, aget, reserve, areserve, consume, aconsume,"
    " invalidate, ainvalidate, observe, unobserve, health, close, ledger",
}
_LINK = re.compile(r"(\]\()([^)\s:#]+)(#[^)\s]*)?(?=\))")


def build(site: Path) -> int:
    """Build into a folder, from nothing. Return the exit code."""
    source, doctrees, stamp = (site.with_name(f"{site.name}-{name}") for name in ("source", "doctrees", "stamp"))
    for folder in (site, source, doctrees):
        shutil.rmtree(folder, ignore_errors=True)
    stamp.unlink(missing_ok=True)
    write_copy(source)
    options = ["--conf-dir", str(HERE), "--doctree-dir", str(doctrees), "--jobs", "2", "--quiet"]
    code = sphinx([*options, "--fail-on-warning", "--keep-going", str(source), str(site)])
    shutil.copytree(DOCS / "images", site / "images")  # those that HTML in the pages names
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        text = re.sub("<picture>.*?</picture>", _by_theme, text, flags=re.DOTALL)
        text = re.sub(r'(?<=<div class="sidebar-tree">).*?(?=</div>)', _grouped, text, flags=re.DOTALL)
        for pattern, better in BETTER:
            text = re.sub(pattern, better, text)
        page.write_text(text, encoding="utf-8")
    lighten_search(site)
    if code == 0:
        stamp.write_text(digest(), encoding="ascii")
    return code


def _by_theme(found: re.Match[str]) -> str:
    """Return a picture for each theme, as the reader's choice of one is not seen by media queries; one is loaded."""
    lazy = found[0].replace("<img", '<img loading="lazy"')
    light = re.sub(r'\s*<source media="\(prefers-color-scheme[^>]*>', "", lazy)
    themed = {"light": light, "dark": light.replace("-light-", "-dark-")}
    return "".join(text.replace("<picture>", f'<picture class="only-{theme}">') for theme, text in themed.items())


def _grouped(tree: re.Match[str]) -> str:
    """Return the sidebar with its lists folded up, but for the list of this page and those that are one page long."""
    html, section = "", ""
    for caption, pages in re.findall(
        r'<span class="caption-text">(.+?)</span></p>\n(.*?)(?=<p |\Z)', tree[0], re.DOTALL
    ):
        before, section = section, caption.rpartition(": ")[0]
        if section and section != before:
            html += f'<p class="caption">{section}</p>\n'
        if pages.count("<li") == 1:
            html += f'<p class="caption">{caption}</p>\n{pages}'
            continue
        kind = "subject" if section else "caption"
        is_open = " open" if 'class="current' in pages else ""
        title = caption.removeprefix(f"{section}: ")
        html += f'<details{is_open}>\n<summary class="{kind}">{title}</summary>\n{pages}</details>\n'
    return html


def lighten_search(site: Path) -> None:
    """Leave out of the page of the search, and of its index, what finds nothing.

    That are styles and scripts of code, comments, what the index says twice (names of the code with a word for their
    kind, anchors that are their titles in other letters), and most of its punctuation: a page is a letter.
    """
    page, data = site / "search.html", site / "searchindex.js"
    for_code = r'<(?:link|script)[^>]*"_static/(?:pygments|copybutton|clipboard)[^>]*>(?:</script>)?'
    page.write_text(re.sub(for_code, "", page.read_text(encoding="utf-8")), encoding="utf-8")
    for name in ("searchtools", "sphinx_highlight", "doctools"):
        script = site / "_static" / f"{name}.js"
        lines = map(str.strip, script.read_text(encoding="utf-8").splitlines())
        kept = (line for line in lines if line and line[0] != "*" and line[:2] not in ("//", "/*"))
        script.write_text("\n".join(kept), encoding="utf-8")
    index = json.loads(data.read_text(encoding="utf-8").removeprefix("Search.setIndex(").removesuffix(")"))
    letters = "".join(filter(_is_letter, map(chr, range(0x21, 0x1000))))[: len(index["docnames"])]
    packed = json.dumps(_packed(index, letters), ensure_ascii=False, separators=(",", ":"))
    said = json.dumps(letters, ensure_ascii=False)
    data.write_text(UNPACK.replace("LETTERS", said).replace("INDEX", packed), encoding="utf-8")


def _packed(index: dict[str, Any], letters: str) -> dict[str, Any]:
    def pack_titles(title: str, places: list[tuple[int, str | None]]) -> Any:
        flat = [on if anchor == _anchor_of(title) else [on, anchor] for on, anchor in places]
        return flat[0] if flat == [places[0][0]] else flat

    def pack_pages(on: int | list[int]) -> str:
        return "".join(letters[page] for page in ([on] if isinstance(on, int) else on))

    def pack_names(found: list[tuple[int, int, int, str, str]]) -> str:
        return " ".join(f"{letters[on]}{kind}{priority}{name}{anchor}" for on, kind, priority, anchor, name in found)

    return {
        **index,
        **{
            key: " ".join(f"{word} {pack_pages(on)}" for word, on in index[key].items())
            for key in ("terms", "titleterms")
        },
        "alltitles": {title: pack_titles(title, places) for title, places in index["alltitles"].items()},
        "objects": {prefix: pack_names(found) for prefix, found in index["objects"].items()},
        "indexentries": {},
        "filenames": 0,
    }


def _is_letter(letter: str) -> bool:
    return letter.isprintable() and letter not in '"\\ '


def _anchor_of(title: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "", title.lower().replace(" ", "-"))


def is_current(site: Path) -> bool:
    """Return whether a build into this folder would bring what is there."""
    stamp = site.with_name(f"{site.name}-stamp")
    return stamp.exists() and stamp.read_text(encoding="ascii") == digest()


def digest() -> str:
    """Return what the files that the site is made of have in common with no others."""
    made_of = [*DOCS.rglob("*.*"), *(ROOT / "entitlement_gate").rglob("*.py"), *BESIDE, ROOT / "constraints.txt"]
    files = (path for path in sorted(made_of) if path.is_file() and path.suffix != ".pyc")
    return sha256(b"".join(str(path).encode() + path.read_bytes() for path in files)).hexdigest()


def write_copy(source: Path) -> None:
    """Write the pages as Sphinx reads them."""
    pages = {page: str(page.relative_to(DOCS)) for page in sorted(DOCS.rglob("*.md"))} | BESIDE
    files = {source / name: _copy_of(page, name, pages, source) for page, name in pages.items()}
    files[source / "index.md"] = _front_page(files[source / "index.md"])
    files[source / "reference/api.md"] += _toctree("", [f"python/{_name_of(title)}" for title in PYTHON], hidden=False)
    for page, title in (("settings", "Options"), ("reasons", "Decisions"), ("errors", "Errors")):
        link = f"[{title}](python/{_name_of(title)}.rst)"
        files[source / f"reference/{page}.md"] += f"\n## As the code has it\n\n{link}: names, types and docstrings.\n"
    files |= {source / f"reference/python/{_name_of(title)}.rst": _python(title) for title in PYTHON}
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _copy_of(page: Path, name: str, pages: dict[Path, str], source: Path) -> str:
    def lead(found: re.Match[str]) -> str:
        target = (page.parent / found[2]).resolve()
        there = pages.get(target) or f"files/{target.relative_to(ROOT)}"
        if target not in pages:
            (source / there).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(target, source / there)
        return f"{found[1]}{os.path.relpath(there, Path(name).parent)}{found[3] or ''}"

    text = page.read_text(encoding="utf-8")
    text = re.sub(r'^<a id="([\w-]+)"></a>$', r"(\1)=", text, flags=re.MULTILINE)
    return _LINK.sub(lead, text)


def _front_page(text: str) -> str:
    """Return the front page: its lists, which ``style.css`` shows as cards, are the groups of the sidebar too."""
    lists, section = "", ""
    for level, title, part in re.findall(r"^(###?) ([^\n]+)\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL):
        section = title if level == "##" else section
        pages = [page.removesuffix(".md") for _, page, _ in _LINK.findall(part)]
        lists += _toctree(title if level == "##" else f"{section}: {title}", pages) if pages else ""
    return re.sub(r"^(- \[.+?\]\(.+?\)): ", r"\1 ", text, flags=re.MULTILINE) + lists


def _toctree(caption: str, pages: list[str], *, hidden: bool = True) -> str:
    options = [":hidden:"] * hidden + [":maxdepth: 1"] + [f":caption: {caption}"] * bool(caption)
    return "\n".join(["", "```{toctree}", *options, "", *pages, "```", ""])


def _name_of(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower())


def _python(title: str) -> str:
    lines = [title, "=" * len(title), ""]
    for name, names in PYTHON[title].items():
        module = import_module(name)
        if module is not entitlement_gate:
            lines += [f".. automodule:: {name}", ""]
        for each in names.split() or module.__all__:
            home = "entitlement_gate" if each in entitlement_gate.__all__ and "contrib" not in name else name
            lines += [f".. auto{_directive_for(getattr(module, each), f'{home}.{each}')}", ""]
    return "\n".join(lines)


def _directive_for(value: object, name: str) -> str:
    if isinstance(value, type):
        if issubclass(value, Exception):
            return f"exception:: {name}\n   :members:\n   :show-inheritance:"
        members = MEMBERS.get(value.__name__, "")
        return f"class:: {name}\n   :members: {members}" + "\n   :undoc-members:" * issubclass(value, Enum)
    return f"function:: {name}" if isroutine(value) else f"data:: {name}"


if __name__ == "__main__":
    # What the modules that are documented need, to be imported.
    settings.configure(
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "rest_framework",
            "entitlement_gate",
            "entitlement_gate.usage",
        ],
        ENTITLEMENT_GATE={"BASE_URL": "sandbox:"},
    )
    django.setup()
    SITE = ROOT / "build" / "docs"
    code = 0 if "--if-changed" in sys.argv and is_current(SITE) else build(SITE)
    if code == 0:
        print(f"the documentation: {SITE / 'index.html'}")
    sys.exit(code)

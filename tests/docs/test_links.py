"""Every link leads somewhere, every page can be reached, and the commands exist."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT, anchors_of, links_of, name_of


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(page):
    for link in links_of(page):
        if not re.match(r"[a-z]+:", link):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.is_file(), link
            assert not anchor or anchor in anchors_of(target), link


def test_every_page_is_linked_from_the_index():
    index = DOCS / "index.md"
    assert {page for page in DOCS.rglob("*.md") if page != index} <= _linked_from(index)


def test_the_readme_leads_to_the_index_and_to_pages_of_each_kind():
    linked = _linked_from(ROOT / "README.md")
    assert DOCS / "index.md" in linked
    assert {page.parent.name for page in linked} >= {
        folder.name for folder in DOCS.iterdir() if any(folder.glob("*.md"))
    }


def _linked_from(page):
    return {(page.parent / link.partition("#")[0]).resolve() for link in links_of(page)}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_command_exists(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.MULTILINE)) <= targets


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_is_about_its_making(page):
    text = page.read_text()
    assert not re.search(r"\bTODO\b", text)
    assert str(ROOT) not in text
    assert f"{Path.home()}/" not in text


def test_what_the_page_on_architecture_says_where_to_find_is_there():
    package, page = ROOT / "entitlement_gate", (DOCS / "explanation" / "architecture.md").read_text()
    rows = re.findall(r"^\| [^|]* \| `([\w/]+\.py)` \| (.*) \|$", page, re.MULTILINE)
    assert len(rows) > 10
    for file, said in rows:
        files = [package / name for name in (file, *re.findall(r"`([\w/]+\.py)`", said))]
        source = "".join(path.read_text() for path in files)
        names = set(re.findall(r"`([a-zA-Z_]+)`", said)) - {"RULES"}
        assert {name for name in names if not re.search(rf"(?:def|class) {name}\b", source)} == set(), file


def test_the_words_live_where_the_vocabulary_says():
    page = (DOCS / "explanation" / "vocabulary.md").read_text()
    files = re.findall(r"`([\w/]+\.py)`", page)
    assert len(files) > 20
    assert [file for file in files if not (ROOT / "entitlement_gate" / file).is_file()] == []

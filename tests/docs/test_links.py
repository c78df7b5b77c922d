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


@pytest.mark.parametrize("start", [ROOT / "README.md", DOCS / "index.md"], ids=name_of)
def test_every_page_is_linked_from_the_readme_and_from_the_index(start):
    linked = {(start.parent / link.partition("#")[0]).resolve() for link in links_of(start)}
    assert {page for page in DOCS.rglob("*.md") if page not in (start, DOCS / "index.md")} <= linked


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

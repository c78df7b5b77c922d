"""The pictures of the pages: there, light, and in each look; and none that no page shows."""

import re

import pytest

from tests.docs.pages import DOCS, PAGES, name_of

IMAGES = DOCS / "images"
HEAVY = 55_000  # bytes; a page of the site has 200,000 for all that it loads, of which text and theme take most
_SHOWN = re.compile(r'!\[[^]]*\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"')
_PICTURE = re.compile(r"<picture>\n(.*?)</picture>\n", re.DOTALL)


def shown_on(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    return {(page.parent / (markdown or html)).resolve() for markdown, html in _SHOWN.findall(text)}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_image_of_a_page_is_there(page):
    assert [path for path in shown_on(page) if not path.is_file()] == []


def test_every_image_that_is_kept_is_shown_and_light():
    kept = set(IMAGES.iterdir())
    assert kept == {path for page in PAGES for path in shown_on(page) if path.parent == IMAGES}
    assert [path.name for path in kept if path.stat().st_size > HEAVY] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_picture_is_shown_in_each_look_that_is_kept(page):
    for picture in _PICTURE.findall(page.read_text()):
        names = re.findall(r"([\w-]+)-((?:light|dark)-(?:desktop|phone))\.webp", picture)
        subject = names[0][0]
        assert {f"{name}-{look}.webp" for name, look in names} == {path.name for path in IMAGES.glob(f"{subject}-*")}
        assert {look.partition("-")[0] for _, look in names} == {"light", "dark"}
        assert re.search(r'<img alt="[^"]{20,}" src="[^"]*-light-desktop.webp">', picture)

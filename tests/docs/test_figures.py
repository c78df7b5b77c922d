"""What pages say was measured is what the page on performance says. Whoever measures anew mends them, too."""

import re

import pytest

from tests.docs.pages import DOCS, name_of

MEASURED = (DOCS / "explanation" / "performance.md").read_text()
_FIGURE = re.compile(r"(?<![\d.])\d[\d,.]*(?: µs| ms| KiB|\u00d7|(?= a second))")


@pytest.mark.parametrize(
    "page", [DOCS / "how-to" / "choose-a-ledger.md", DOCS / "explanation" / "comparison.md"], ids=name_of
)
def test_the_figures_of_a_page_are_those_that_were_measured(page):
    said = _FIGURE.findall(page.read_text())
    assert len(said) > 3
    assert [figure for figure in said if figure not in MEASURED] == []

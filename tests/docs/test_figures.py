"""What pages say was measured is what the page on performance says. Whoever measures anew mends them, too."""

import re

import pytest

from tests.docs.pages import DOCS, ROOT, name_of

MEASURED = (DOCS / "explanation" / "performance.md").read_text()
_FIGURE = re.compile(r"(?<![\d.])\d[\d,.]*(?: µs| ms| KiB|\u00d7|(?= a second))")


@pytest.mark.parametrize(
    "page", [DOCS / "how-to" / "choose-a-ledger.md", DOCS / "explanation" / "comparison.md"], ids=name_of
)
def test_the_figures_of_a_page_are_those_that_were_measured(page):
    said = _FIGURE.findall(page.read_text())
    assert len(said) > 3
    assert [figure for figure in said if figure not in MEASURED] == []


def test_the_versions_of_the_peers_are_those_that_are_measured():
    pins = (ROOT / "benchmarks" / "constraints.txt").read_text().lower()
    said = re.findall(r"([\w-]+) (\d+\.\d+\.\d+)", (DOCS / "explanation" / "comparison.md").read_text().split("##")[0])
    assert len(said) > 8
    # Stripe's library is looked at, and not measured.
    assert [f"{name}=={version}" for name, version in said if f"{name}=={version}".lower() not in pins] == [
        "stripe==16.1.0"
    ]

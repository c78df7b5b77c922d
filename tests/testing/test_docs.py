"""The page is a test module: its blocks, one after the other, pass in a user's project."""

from __future__ import annotations

from entitlement_gate.testing import __all__
from tests.docs.pages import DOCS, blocks_of

PAGE = DOCS / "how-to" / "test-your-gates.md"


def test_the_examples_of_the_page_pass(project):
    with (project.path / "urls.py").open("a", encoding="utf-8") as urls:
        urls.write("\n\ndef customer(request):\n    return '10000000-0000-4000-8000-000000000001'\n")
    blocks = [block.text for block in blocks_of(PAGE) if block.language == "python"]
    project.write("test_page.py", "\n".join(blocks))
    outcome = project.pytest()
    assert (outcome["passed"], outcome.code) == (14, 0), outcome.said


def test_the_page_names_everything_there_is():
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in __all__ if name not in text] == ["aassert_not_gated"]

"""Who knows Django, as the docstring of ``operators`` and the page on architecture say."""

import re
from pathlib import Path

import grimp
import pytest

from entitlement_gate import operators

PAGE = Path(__file__).parents[2] / "docs/explanation/architecture.md"


@pytest.fixture(scope="module")
def knowing():
    """The modules that import Django, or what does; an exception of the domain's is no knowledge of it."""
    graph = grimp.build_graph("entitlement_gate", include_external_packages=True, exclude_type_checking_imports=True)
    graph.remove_import(importer="entitlement_gate.domain.errors", imported="django")
    return {name.removeprefix("entitlement_gate.") for name in graph.find_downstream_modules("django")}


def test_the_parts_of_operators_that_know_it_are_named(knowing):
    sentence = re.search(r"looks at a project \(([^)]*)\) knows Django", operators.__doc__).group(1)
    assert {f"operators.{name}" for name in re.findall(r"``(\w+)``", sentence)} == {
        name for name in knowing if name.startswith("operators.")
    }


def test_the_folders_that_know_it_are_named(knowing):
    sentence = re.search(r"Django is known to ([^;]*); httpx", " ".join(PAGE.read_text().split())).group(1)
    folders = {name.partition(".")[0] for name in knowing if "." in name}
    assert set(re.findall(r"`(\w+)`", sentence)) == folders | {"domain"}

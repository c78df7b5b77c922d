from __future__ import annotations

from entitlement_gate.operators.names_in_calls import calls_in

SOURCE = """
has_entitlement(request, "first")
entitlement_gate.acheck_entitlement(customer, "second", 3)
require_entitlement(customer=customer, entitlement="third")
Requirement("fourth") & Requirement(name)
@requires_entitlement("fifth")
def view(request): ...
other_entitlement(customer, "no")
has_entitlement(customer, 5)
has_entitlement()
lookup["has_entitlement"](customer, "no")
"""


def test_literal_names_in_calls_are_read_and_nothing_is_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in (("a/code.py", SOURCE), ("broken.py", "has_entitlement(("), ("plain.py", "x = 1")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "x.py").write_text(SOURCE)
    found = {(each.name, each.where) for each in calls_in([tmp_path])}
    assert found == {
        ("first", "a/code.py:2"), ("second", "a/code.py:3"), ("third", "a/code.py:4"), ("fourth", "a/code.py:5"),
        ("fifth", "a/code.py:6"),
    }  # fmt: skip

from decimal import Decimal

import pytest

from entitlement_gate.sandbox import Fault, ScenarioError
from entitlement_gate.sandbox.faults import KINDS, Faults


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kind": "explode"}, "kind: expected one of status, delay,"),
        ({"kind": []}, "kind: expected one of"),
        ({"kind": "status", "status": 199}, "status: expected an integer from 200 to 599"),
        ({"kind": "status", "status": "503"}, "status: expected an integer"),
        ({"kind": "delay", "seconds": True}, "seconds: expected a number"),
        ({"kind": "delay", "seconds": Decimal("NaN")}, "seconds: expected 0 to 3600"),
        ({"kind": "delay", "times": 0}, "times: expected an integer from 1"),
        ({"kind": "big", "bytes": 1 << 31}, "bytes: expected an integer from 1"),
        ({"kind": "null", "page": 1.5}, "page: expected an integer"),
        ({"kind": "null", "path": 5}, "path: expected a text"),
        ({"kind": "status", "retry_after": "1\r\nx: y"}, "retry_after: expected"),
        ({"kind": "status", "retry_after": True}, "retry_after: expected"),
    ],
)
def test_a_fault_that_cannot_be_is_refused(given, says):
    with pytest.raises(ScenarioError) as caught:
        Fault(**given)
    assert str(caught.value).startswith(says)
    with pytest.raises(ScenarioError) as caught:
        Fault.parse(given, "faults[0]")
    assert str(caught.value).startswith(f"faults[0].{says}")


def test_a_fault_needs_a_kind_and_known_fields():
    with pytest.raises(ScenarioError, match=r"^f: 'kind' is missing"):
        Fault.parse({}, "f")
    with pytest.raises(ScenarioError, match=r"did you mean 'seconds'"):
        Fault.parse({"kind": "delay", "second": 1}, "f")


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_is_read_back_from_what_it_says_of_itself(kind):
    fault = Fault(kind, seconds=Decimal("0.5"), bytes=7, retry_after="soon", times=2)
    assert Fault.parse(fault.as_dict(), "f") == fault
    assert (fault.wait, fault.size) == (0.5, 7)


def test_a_kind_has_its_own_sizes():
    assert (Fault("hang").wait, Fault("status").wait) == (60.0, 0.0)
    assert (Fault("gzip_bomb").size, Fault("null").size) == (200_000_000, 1)


def test_a_fault_is_over_after_its_times():
    faults = Faults([Fault("null", times=2)])
    assert [faults.take("/x", None) is not None for _ in range(3)] == [True, True, False]
    assert len(faults) == 0


def test_a_fault_without_times_has_no_end():
    faults = Faults([Fault("null")])
    assert all(faults.take("/x", None) for _ in range(5))


def test_the_first_fault_that_hits_is_taken():
    usage, second, rest = Fault("null", path="/usage"), Fault("html", page=2), Fault("empty", times=1)
    faults = Faults([usage, second])
    faults.add(rest)
    assert faults.take("/usage/x", None) is usage
    assert faults.take("/entitlements/x", 2) is second
    assert faults.take("/entitlements/x", 1) is rest
    assert list(faults) == [usage, second]
    faults.clear()
    assert faults.take("/usage/x", None) is None

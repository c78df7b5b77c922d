"""Runs the contract's cases without pytest, until the first one fails: to see whether a changed store is found out."""

import itertools

import pytest

from entitlement_gate.testing.ledger_contract import LedgerContract

# What tells the most comes first: a changed store is found out sooner.
FIRST = ("agrees", "several", "stays", "credit", "rows_that_end")


def first_failure(make_ledger, pass_time):
    """Return the name of the first case that fails, or None."""

    class Cases(LedgerContract):
        def make_ledger(self):
            return make_ledger()

        def pass_time(self, ledger, seconds):
            pass_time(ledger, seconds)

    for name in sorted(filter(lambda name: name.startswith("test_"), dir(Cases)), key=_urgency):
        for arguments in _variations(getattr(Cases, name)):
            if _fails(Cases(), name, arguments):
                return name
    return None


def _urgency(name):
    return next((place for place, part in enumerate(FIRST) if part in name), len(FIRST)), name


def _variations(case):
    """Return the arguments of each run that ``parametrize`` asks for."""
    marks = [mark for mark in getattr(case, "pytestmark", []) if mark.name == "parametrize"]
    choices = []
    for mark in marks:
        names, values = mark.args
        names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
        choices.append([dict(zip(names, value if len(names) > 1 else (value,), strict=True)) for value in values])
    return [{name: value for part in parts for name, value in part.items()} for parts in itertools.product(*choices)]


def _fails(cases, name, arguments):
    ledger = cases.make_ledger()
    try:
        getattr(cases, name)(ledger, **arguments)
    except (Exception, pytest.fail.Exception):  # noqa: BLE001 - whatever a wrong store leads to
        return True
    finally:
        ledger.close()
    return False


def mutated(text, before, after):
    """Return the text with the one place changed; a list of mutants must not rot."""
    assert text.count(before) == 1, f"{text.count(before)} times: {before}"
    return text.replace(before, after)

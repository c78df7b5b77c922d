"""The recipe of the page about background jobs for Django's own tasks, as it stands there."""

import sys
import types

import pytest

from entitlement_gate import EntitlementDenied, check_entitlement
from tests.customers import PRO
from tests.docs.pages import DOCS, blocks_of

pytest.importorskip("django.tasks", reason="Django 6.0 brought it")
MODULE = "recipe"


@pytest.fixture
def export(settings, monkeypatch):
    settings.ENTITLEMENT_GATE = {"BASE_URL": "sandbox:", "DEADLINE": 30}
    (block,) = (each for each in blocks_of(DOCS / "how-to" / "celery.md") if each.mark == "run with django.tasks")
    module = types.ModuleType(MODULE)
    monkeypatch.setitem(sys.modules, MODULE, module)  # a task is found again by the path to it
    exec(block.text, vars(module))
    return module.export


def test_a_task_counts_once_for_each_time_it_was_sent(export):
    assert [export.enqueue(PRO, 50).return_value for _ in range(2)] == ["50 pages"] * 2
    assert check_entitlement(PRO, "API Calls").remaining == 850


def test_a_task_that_is_refused_says_why(export):
    (error,) = export.enqueue(PRO, 5_000).errors
    assert error.exception_class is EntitlementDenied
    assert check_entitlement(PRO, "API Calls").remaining == 950


def test_a_task_that_is_run_again_counts_once(export):
    from django.tasks import TaskContext

    again = TaskContext(task_result=export.enqueue(PRO, 50))
    assert export.func(again, PRO, 50) == "50 pages"
    assert check_entitlement(PRO, "API Calls").remaining == 900

"""What runs beside the requests: an export that takes calls.

A thread stands for your queue, so that the example needs no broker. ``write_export`` is what a task is, of Celery or of
Django's; there a decorator of ``entitlement_gate.contrib.celery`` can hold and commit.
"""

import logging
from concurrent.futures import ThreadPoolExecutor

from django.contrib.auth.models import User
from django.db import connections, transaction

from entitlement_gate import EntitlementDenied, EntitlementUnavailable, reserve_entitlement
from fieldnotes.models import Export
from fieldnotes.prices import EXPORT

_logger = logging.getLogger(__name__)
_queue = ThreadPoolExecutor(max_workers=1, thread_name_prefix="exports")


def start_export(user: User) -> Export:
    """Have an export written, as soon as it is committed that there is one."""
    export = Export.objects.create(user=user)
    transaction.on_commit(lambda: _queue.submit(_run, export.pk))
    return export


def write_export(export_id: int) -> None:
    """Hold the calls, do the work, and count them; where the work fails they are given back.

    The key makes it safe to run the job again, as queues do: one export is counted once.
    """
    export = Export.objects.select_related("user__profile").get(pk=export_id)
    customer_id = export.user.profile.zenskar_customer_id
    try:
        with reserve_entitlement(customer_id, EXPORT, key=f"export {export.pk}") as reservation:
            export.state, export.outcome = Export.State.DONE, f"{reservation.quantity} calls were used"
    except EntitlementDenied as error:
        export.state, export.outcome = Export.State.REFUSED, str(error.decision.reason)
    except EntitlementUnavailable:  # nobody knows: that is no refusal, and the job is to run again
        export.state, export.outcome = Export.State.POSTPONED, "billing does not answer"
    export.save()


def _run(export_id: int) -> None:
    try:
        write_export(export_id)
    except Exception:
        _logger.exception("export %s failed", export_id)
    finally:
        connections.close_all()

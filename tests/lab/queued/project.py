"""Settings, app and tasks of the project. Its tasks kill the process they run in when told so, at a place of choice."""

import os
import signal
import time
from functools import wraps

import redis
from celery import Celery

from entitlement_gate.contrib.celery import consumes_entitlement

SECRET_KEY = "only for tests"
INSTALLED_APPS = ["entitlement_gate"]
ENTITLEMENT_GATE = {
    "BASE_URL": os.environ["BILLING"],
    "API_KEY": "sandbox-key",
    "ORGANISATION": "00000000-0000-4000-8000-000000000001",
    "LEDGER": "redis",
    "REDIS_URL": os.environ["LEDGER"],
    "DEADLINE": 30,  # the machine may be busy
}
os.environ["DJANGO_SETTINGS_MODULE"] = __name__

app = Celery("queued", broker=os.environ["REDIS"], backend=os.environ["REDIS"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_lost_wait=0.5,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": float(os.environ["VISIBILITY_TIMEOUT"])},
)
notes = redis.Redis.from_url(os.environ["REDIS"])


def dies(task, place, death):
    """Kill the process, or the worker, of the first run that comes to the place where it is to die."""
    if death.startswith(place) and notes.incr(f"died {task.request.id}") == 1:
        if death.endswith("with the worker"):
            os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


def dying_after(function):
    """Let a run die once it has counted, before Celery has heard of it."""

    @wraps(function)
    def run(self, customer_id, pages, death):
        done = function(self, customer_id, pages, death)
        dies(self, "after", death)
        return done

    return run


@app.task(bind=True, name="export")
@dying_after
@consumes_entitlement("calls", "pages", customer="customer_id")
def export(self, customer_id, pages, death):
    notes.incr(f"runs {self.request.id}")
    dies(self, "within", death)
    return pages


@app.task(bind=True, name="stubborn", max_retries=3, default_retry_delay=0)
@consumes_entitlement("calls", "pages", customer="customer_id")
def stubborn(self, customer_id, pages, fails):
    if self.request.retries < fails:
        raise self.retry(exc=KeyError("no"))
    return self.request.retries


@app.task(bind=True, name="relay")
@consumes_entitlement("calls", "pages", customer="customer_id")
def relay(self, customer_id, pages):
    return self.replace(stubborn.s(customer_id, pages, 0))


@app.task(name="endless", time_limit=1)
@consumes_entitlement("calls", "pages", customer="customer_id")
def endless(customer_id, pages):
    time.sleep(600)

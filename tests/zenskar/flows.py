"""Runs flows without a network, by a clock whose hands a test moves."""

from collections import deque

from entitlement_gate.zenskar.retry import Pause, Reply
from tests.zenskar.scripted import a_page

NOON = 1_768_478_400.0


class Hands:
    """A clock whose hands a test moves."""

    def __init__(self):
        self.elapsed = 0.0

    def time(self):
        return NOON + self.elapsed

    def monotonic(self):
        return self.elapsed


def run(flow, clock, *told):
    """Tell a flow what came of each call; give its value, its calls and the pauses it took."""
    answers, calls, pauses = deque(told), [], []
    try:
        step = next(flow)
        while True:
            if isinstance(step, Pause):
                pauses.append(step.seconds)
                clock.elapsed += step.seconds
                step = next(flow)
            else:
                calls.append(dict(step.params))
                step = flow.send(answers.popleft() if len(answers) > 1 else answers[0])
    except StopIteration as end:
        return end.value, calls, pauses


def ok(*rows, cursor=None):
    return Reply(200, {}, a_page(*rows, cursor=cursor))


def status(number, body=b"", **headers):
    return Reply(number, {name.replace("_", "-"): text for name, text in headers.items()}, body)

"""The arguments that both doors share: ``manage.py entitlements`` and ``entitlement-gate``. Never here: doing it."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["EXIT_CODES", "add_action", "add_asking", "add_doctor", "add_format"]

EXIT_CODES = "exit codes: 0 allowed, or nothing found; 1 denied, or something found; 2 unknown, or misuse"


def add_asking(actions: Any) -> None:
    """Add ``show``, ``check`` and ``explain``."""
    show = add_action(actions, "show", "every entitlement of a customer: answer, window, limit, used, left, rows")
    show.add_argument("customer", metavar="CUSTOMER", help="the customer's Zenskar id")
    show.add_argument("--rows", action="store_true", help="list the rows, too")
    add_format(show)
    for name, text in (
        ("check", "whether the customer may, in one line; the exit code says it too"),
        ("explain", "which rows counted, which did not and why, and what would have to change"),
    ):
        action = add_action(actions, name, text)
        action.add_argument("customer", metavar="CUSTOMER", help="the customer's Zenskar id")
        action.add_argument("name", metavar="NAME", help="the entitlement: its name, alias or id")
        action.add_argument("quantity", metavar="QUANTITY", nargs="?", help="how much is needed; any at all by default")
        add_format(action)


def add_doctor(actions: Any) -> None:
    """Add ``doctor``."""
    text = "what stands between a gate and true answers, and what to do; reaches billing"
    doctor = add_action(actions, "doctor", text)
    text = "customers that together hold every entitlement: names in code are compared with theirs"
    doctor.add_argument("customers", metavar="CUSTOMER", nargs="*", help=text)
    doctor.add_argument("--name", metavar="NAME", action="append", default=[], help="a name to look for; repeatable")
    add_format(doctor)


def add_action(actions: Any, name: str, text: str) -> argparse.ArgumentParser:
    """Add one action, which takes the colour options behind its name, too."""
    action: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text, epilog=EXIT_CODES)
    for option, what in (("--no-color", "no colours"), ("--force-color", "colours even where no terminal is")):
        action.add_argument(option, action="store_true", default=argparse.SUPPRESS, help=what)
    return action


def add_format(action: argparse.ArgumentParser) -> None:
    """Let an action answer programs."""
    action.add_argument("--format", choices=("text", "json"), default="text", help="for people, or for programs")

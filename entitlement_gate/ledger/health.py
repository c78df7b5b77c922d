"""What a store says of itself to whoever looks after it. Never here: what each store looks at."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["examined"]

# A URL's user and password, and passwords as libpq's messages may repeat them.
_SECRET = re.compile(r"(?<=://)[^\s/@]*(?=@)|(?<=password=)(?:'[^']*'|\S+)", re.IGNORECASE)


def examined(store: str, look: Callable[[dict[str, Any]], None], **unknown: Any) -> dict[str, Any]:
    """Return what ``look`` found out as far as it got; what it did not get to is None. Raises nothing.

    An error is told as ``"error": "<class>: <text>"``, without secrets.
    """
    report: dict[str, Any] = {"store": store, "reachable": False, "pending": None, "dead_letters": None, **unknown}
    try:
        look(report)
    except Exception as error:  # noqa: BLE001 - a report of what is wrong must not fail of it
        report["error"] = _SECRET.sub("***", f"{type(error).__name__}: {error}")
    return report

"""Instants that can be shown in every time zone. Never here: the clock.

"Never ends" is often written as the last second of the calendar, which has no local time east of Greenwich, as the
first one has none west of it: Django turns every instant of a template into local time, and fails there with a 500.
"""

from __future__ import annotations

from datetime import MAXYEAR, MINYEAR, UTC, datetime, tzinfo
from typing import Self

__all__ = ["EdgeInstant", "aware", "showable"]


class EdgeInstant(datetime):
    """An instant of the first or last year there is: in a zone where it has no local time it stays as it is."""

    def astimezone(self, tz: tzinfo | None = None) -> Self:
        """Return the same instant in another zone, or in this one."""
        try:
            return super().astimezone(tz)
        except (OverflowError, ValueError, OSError):  # each of them, by platform and zone
            return self


def showable(instant: datetime) -> datetime:
    """Return the same instant, such that every zone can show it.

    >>> from zoneinfo import ZoneInfo
    >>> never = showable(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
    >>> never.astimezone(ZoneInfo("Asia/Tokyo")).isoformat()
    '9999-12-31T23:59:59+00:00'
    """
    if MINYEAR < instant.year < MAXYEAR:
        return instant
    return EdgeInstant.combine(instant.date(), instant.timetz())


def aware(instant: datetime) -> datetime:
    """Return the instant with a time zone, UTC where it has none, and showable."""
    return showable(instant.replace(tzinfo=UTC) if instant.utcoffset() is None else instant)

"""Bytes of one page → grants: the only file that knows which JSON a gate decides on.

Never here: HTTP. Rows are read one by one and leniently, because the vendor's own examples break its schema: a
broken row is set aside and never hurts the others. The decoder is the standard library's: it is the only one at
hand that keeps fractions exact (pydantic reads ``9007199254740993.0`` as ``…992``), and no slower.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from sys import intern
from typing import TYPE_CHECKING, Any, NamedTuple

from entitlement_gate.domain.errors import SourceMalformed
from entitlement_gate.domain.grants import EntitlementType, Grant, aware, dedupe
from entitlement_gate.domain.numbers import exact_number
from entitlement_gate.domain.rule import canonical_uuid

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["WirePage", "read_error", "read_grants", "read_instant", "read_json", "read_page"]

_LONGEST_SHARED = 40  # characters of text that a cache may hold on to
_UUID_LENGTH = 36
_TYPES = {text: kind for kind in EntitlementType for text in (str(kind), str(kind).casefold())}
_FALSE_LIKE = frozenset({"false", "off", "no", "disabled", "0"})
_LONGEST_DETAIL = 500
_TRACE_OF_A_DATE = re.compile(r"\d{4}-\d\d-\d\d.{0,40}", re.ASCII)

# A billing period's amounts, dates and entitlement ids recur in every row of every customer: each is read once, and
# shared in memory (20 rows: 10.9 kB a customer without, 4.7 kB with).
_shared_number = lru_cache(maxsize=4096)(exact_number)


class WirePage(NamedTuple):
    """One page as it came: unread rows, the cursor of the next page, and all that stood around them."""

    rows: list[Any]
    next: str | None
    envelope: dict[str, Any]


class _Unreadable(ValueError):
    """A field that decides holds something that cannot be read."""


def _parse_fraction(text: str) -> Decimal | None:
    return _shared_number(text) if len(text) <= _LONGEST_SHARED else exact_number(text)


def _parse_whole(text: str) -> int | None:
    number = exact_number(text)
    return None if number is None else int(number)


_DECODER = json.JSONDecoder(parse_float=_parse_fraction, parse_constant=lambda _: None)
# `int` refuses text of 4,300 digits, and with it the whole page; reading every integer ourselves doubles the time.
_PATIENT_DECODER = json.JSONDecoder(parse_int=_parse_whole, parse_float=_parse_fraction, parse_constant=lambda _: None)


def read_json(body: bytes) -> Any:
    """Return the JSON value of a body, numbers exact; NaN, infinities and absurdly long numbers are None.

    Raises:
        SourceMalformed: not UTF-8, not JSON, or nested too deeply to read.
    """
    try:
        return _decode(body.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise SourceMalformed(f"the body is no JSON ({type(error).__name__})") from None


def _decode(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        return _PATIENT_DECODER.decode(text)


def read_page(body: bytes) -> WirePage:
    """Return the rows and the next cursor of a page.

    Raises:
        SourceMalformed: no JSON object with a list of ``results``, or a cursor that is no text.
    """
    page = read_json(body)
    if not isinstance(page, dict) or not isinstance(page.get("results"), list):
        raise SourceMalformed("the answer has no list of results")
    cursor = page.get("next")
    if cursor is not None and not isinstance(cursor, str):
        raise SourceMalformed("the next cursor is no text")
    return WirePage(page["results"], cursor or None, page)


def read_grants(rows: Iterable[Any], customer_id: str) -> tuple[Grant, ...]:
    """Return the customer's own grants among the rows of all pages, one per row id.

    Raises:
        SourceMalformed: rows came and every one belongs to somebody else.
    """
    readable = [row for row in rows if isinstance(row, dict)]
    own = [row for row in readable if row.get("customer") == customer_id or _owner_of(row) == customer_id]
    if readable and not own:
        raise SourceMalformed("every row belongs to another customer")
    return dedupe([_read_grant(row, name) for row in own if isinstance(name := row.get("name"), str) and name])


def read_error(body: bytes) -> str:
    """Return what an error body says, as one short line; empty when it says nothing readable.

    Understands ``{"detail": [{"loc", "msg"}]}``, ``{"detail": "…"}`` and ``{"Message": "…"}``.
    """
    try:
        answer = read_json(body)
    except SourceMalformed:
        return ""
    if not isinstance(answer, dict):
        return ""
    detail = answer.get("detail") or answer.get("Message") or answer.get("message") or ""
    lines = [_format_error(item) for item in detail] if isinstance(detail, list) else [detail]
    message = "; ".join(line for line in lines if isinstance(line, str) and line)
    return " ".join(filter(str.isprintable, " ".join(message.split())[:_LONGEST_DETAIL].split()))


def _format_error(item: object) -> object:
    if not isinstance(item, dict):
        return item
    places = item.get("loc")
    place = ".".join(map(str, places)) if isinstance(places, list) else ""
    return f"{place}: {item.get('msg', '')}" if place else item.get("msg")


def _owner_of(row: Mapping[str, Any]) -> str | None:
    customer = row.get("customer")
    if isinstance(customer, dict):
        customer = customer.get("id")
    return customer.lower() if isinstance(customer, str) else None


def _read_grant(row: Mapping[str, Any], name: str) -> Grant:
    get = row.get
    status, units, option = get("status"), get("units"), get("feature_option_value")
    entitlement_id = _read_entitlement_id(get("entitlement"))
    try:
        return Grant(
            id=_read_row_id(get("id")),
            name=intern(name),
            entitlement_id=entitlement_id,
            type=_read_type(get("type")),
            status="active" if status == "active" else _read_status(status),  # one text for every row, not one a row
            units=intern(units) if isinstance(units, str) else None,
            active_from=read_instant(get("active_from")),
            expires_at=read_instant(get("expiry_at")),
            quantity=_read_number(get("quantity")),
            used=_read_number(get("quantity_used")),
            reported_remaining=_read_number(get("quantity_remaining")),
            is_disabled=option is not None and _is_false_like(option),
        )
    except _Unreadable:
        return Grant(id=_read_id(get("id")) or "", name=name, entitlement_id=entitlement_id, is_malformed=True)


def _read_row_id(value: object) -> str:
    row_id = _read_id(value)
    if row_id is None:
        raise _Unreadable
    return row_id


def _read_id(value: object) -> str | None:
    """Ids are lenient text: documented as UUIDs, exemplified as anything, a number included."""
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _read_entitlement_id(value: object) -> str | None:
    """UUIDs are compared without case; what is none is compared as it stands."""
    if isinstance(value, str) and len(value) == _UUID_LENGTH:
        return _intern_id(value)
    return _read_id(value)


@lru_cache(maxsize=4096)
def _intern_id(text: str) -> str:
    return intern(canonical_uuid(text) or text)


def _read_number(value: object) -> Decimal | None:
    if value is None or type(value) is Decimal:  # of this file's own decoder: already judged
        return value
    return _shared_number(value) if type(value) is int else exact_number(value)


def _read_type(value: object) -> EntitlementType | str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise _Unreadable
    return _TYPES.get(value) or _TYPES.get(value.casefold(), value.casefold())


def _read_status(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise _Unreadable
    return intern(value.casefold())


def read_instant(value: object) -> datetime | None:
    """Return an aware datetime from ISO 8601 text; None stays None.

    Raises:
        ValueError: neither.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise _Unreadable
    return _parse_instant(value)


@lru_cache(maxsize=4096)
def _parse_instant(text: str) -> datetime:
    """Read ISO 8601; without an offset it is UTC, a bare date is its first instant."""
    if not _TRACE_OF_A_DATE.fullmatch(text):  # `fromisoformat` also takes week dates and compact forms
        raise _Unreadable
    try:
        instant = datetime.fromisoformat(text.upper())  # "t" and "z" are as good (RFC 3339, 5.6)
        instant = aware(instant)
        instant.timestamp()
    except (ValueError, OverflowError):
        raise _Unreadable from None
    return instant


def _is_false_like(value: object) -> bool:
    if isinstance(value, (bool, int, Decimal)):
        return not value
    return isinstance(value, str) and value.strip().casefold() in _FALSE_LIKE

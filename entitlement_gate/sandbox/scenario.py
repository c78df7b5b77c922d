"""A scenario: the customers, grants, faults and keys a sandbox starts with, read from JSON.

Each reader returns the value, or raises an error that names its place in the file. Nothing here depends on the time
of day: dates relative to the start are resolved in ``state``.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from entitlement_gate.sandbox import facts
from entitlement_gate.sandbox.messages import read_json

__all__ = [
    "KINDS",
    "Customer",
    "Fault",
    "Reader",
    "Scenario",
    "ScenarioError",
    "ScenarioGrant",
    "derive_id",
    "make_choice_reader",
    "make_optional",
    "parse_faults",
    "read_identifier",
    "read_integer",
    "read_list",
    "read_mapping",
    "read_moment",
    "read_number",
    "read_text",
]

Reader = Callable[[Any, str], Any]

# Exact, yet bounded: a number of a million digits is a mistake, and 1e400 (beyond every float) is not.
_MOST_DIGITS = 500
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_RELATIVE = re.compile(r"([+-])([0-9]{1,9})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_FARTHEST = timedelta(days=36_500)


class ScenarioError(ValueError):
    """A scenario, or a change to a sandbox, is invalid; the text names the place first."""


def read_mapping(value: Any, place: str, allowed: Iterable[str], needed: Iterable[str] = ()) -> Mapping[str, Any]:
    """Read an object whose fields are all among ``allowed``; an unknown one is named with its neighbour."""
    if not isinstance(value, Mapping):
        raise ScenarioError(f"{place or 'scenario'}: expected an object, not {_abbreviate(value)}")
    names = sorted(allowed)
    for name in value:
        if name not in names:
            near = get_close_matches(str(name), names, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ScenarioError(f"{place or 'scenario'}: unknown field {name!r}{hint}")
    for name in needed:
        if name not in value:
            raise ScenarioError(f"{place or 'scenario'}: {name!r} is missing")
    return value


def read_list(value: Any, place: str) -> list[tuple[str, Any]]:
    """Read a list as pairs of place and item."""
    if not isinstance(value, list | tuple):
        raise ScenarioError(f"{place}: expected a list, not {_abbreviate(value)}")
    return [(f"{place}[{index}]", item) for index, item in enumerate(value)]


def make_optional(reader: Reader) -> Reader:
    """Let a reader take null too."""
    return lambda value, place: None if value is None else reader(value, place)


def read_text(value: Any, place: str) -> str:
    """Read a text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ScenarioError(f"{place}: expected a text, not {_abbreviate(value)}")
    return value


def read_identifier(value: Any, place: str) -> str:
    """Read a UUID or its hyphenated text, any case; the answer is lower case."""
    candidate = str(value) if isinstance(value, UUID) else value
    if not isinstance(candidate, str) or not _UUID.fullmatch(candidate):
        raise ScenarioError(f"{place}: expected a UUID, not {_abbreviate(value)}")
    return candidate.lower()


def read_integer(value: Any, place: str, least: int, most: int) -> int:
    """Read an integer within bounds; ``True`` is no integer here."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ScenarioError(f"{place}: expected an integer from {least} to {most}, not {_abbreviate(value)}")
    return value


def read_number(value: Any, place: str) -> int | Decimal:
    """Read an exact number: an int, a Decimal, their text, or a float through its ``repr``."""
    exact = value
    if isinstance(value, float | str):
        try:
            exact = Decimal(repr(value) if isinstance(value, float) else value)
        except InvalidOperation:
            exact = None
    if isinstance(exact, bool) or not isinstance(exact, int | Decimal) or not _has_few_digits(Decimal(exact)):
        raise ScenarioError(f"{place}: expected a number, not {_abbreviate(value)}")
    return exact


def _has_few_digits(value: Decimal) -> bool:
    exponent = value.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -_MOST_DIGITS and value.adjusted() <= _MOST_DIGITS


def read_moment(value: Any, place: str) -> datetime | timedelta:
    """Read an instant: a datetime or ISO text, or a time span from the start (``"-30d"``, ``"now"``)."""
    if isinstance(value, datetime):
        return value
    span = value if isinstance(value, timedelta) else _parse_span(value)
    if span is not None and abs(span) <= _FARTHEST:
        return span
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        forms = 'a date: ISO text, "now", or relative like "-30d", "+12h", "+90m", "-5s"'
        raise ScenarioError(f"{place}: expected {forms}, not {_abbreviate(value)}") from None


def _parse_span(value: Any) -> timedelta | None:
    if value == "now":
        return timedelta()
    match = _RELATIVE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    sign, count, unit = match.groups()
    return timedelta(**{_UNITS[unit]: int(sign + count)})


def make_choice_reader(enum: str) -> Reader:
    """Make a reader for a documented enumeration, exact in case."""

    def read(value: Any, place: str) -> str:
        options = facts.enum(enum)
        if value not in options:
            raise ScenarioError(f"{place}: expected one of {', '.join(options)}, not {_abbreviate(value)}")
        return str(value)

    return read


def _abbreviate(value: Any) -> str:
    """Show a value in one line."""
    if value is None:
        return "null"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - room for one line of error


KINDS: Mapping[str, str] = {
    "status": "answer with `status`, with `body` and `retry_after` when given",
    "delay": "answer `seconds` late",
    "drip": "send the body `bytes` at a time, `seconds` apart",
    "hang": "never answer; close after `seconds` at most",
    "truncate": "promise the whole body, send half, close",
    "reset": "reset the connection",
    "garbage": "200 with bytes that are no JSON",
    "html": "200 with a page of HTML",
    "null": "200 with the JSON null",
    "redirect": "302 to another host",
    "empty": "204 with no body",
    "wrong_shape": "200 with the rows under `data`",
    "gzip_bomb": "200 with a small gzip body that unpacks to `bytes`",
    "big": "200 with a body of `bytes`",
    "deep": "200 with JSON nested `bytes` / 2 deep",
    "cursor_loop": "the same `next` for ever",
    "foreign": "the rows of another customer",
}
_SECONDS = {"delay": 1.0, "drip": 0.05, "hang": 60.0}
_BYTES = {"drip": 16, "gzip_bomb": 200_000_000, "big": 8 << 20, "deep": 200_000}
_FAULT = ("kind", "status", "times", "path", "page", "retry_after", "seconds", "bytes", "body")
_LONGEST = 3600
_LARGEST = 1 << 30


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing to go wrong; see ``KINDS`` for what each kind does.

    Attributes:
        kind: One of ``KINDS``.
        status: What ``status`` answers with.
        times: Requests it hits before it is over; ``None`` for no end.
        path: Hits only paths that begin so.
        page: Hits only this page of a list, counted from 1.
        retry_after: The ``Retry-After`` header of ``status``.
        seconds: A delay, the pause of ``drip``, the end of ``hang``; any other kind answers that late.
        bytes: A size; ``None`` for the kind's own.
        body: The text that ``status`` sends.

    Raises:
        ScenarioError: A value cannot be; the text begins with its name.
    """

    kind: str
    _: KW_ONLY
    status: int = 503
    times: int | None = None
    path: str | None = None
    page: int | None = None
    retry_after: int | str | None = None
    seconds: float | None = None
    bytes: int | None = None
    body: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in KINDS:
            raise ScenarioError(f"kind: expected one of {', '.join(KINDS)}, not {self.kind!r}")
        read_integer(self.status, "status", 200, 599)
        for name in ("times", "page", "bytes"):
            if getattr(self, name) is not None:
                read_integer(getattr(self, name), name, 1, _LARGEST)
        if self.seconds is not None:
            object.__setattr__(self, "seconds", _read_seconds(self.seconds))
        for name in ("path", "body"):
            if not isinstance(getattr(self, name), str | None):
                raise ScenarioError(f"{name}: expected a text, not {getattr(self, name)!r}")
        _check_retry_after(self.retry_after)

    @classmethod
    def parse(cls, value: Any, place: str) -> "Fault":
        """Read a fault from a mapping, or raise ``ScenarioError`` naming the place."""
        fields = read_mapping(value, place, _FAULT, ["kind"])
        try:
            return cls(**fields)
        except ScenarioError as error:
            raise ScenarioError(f"{place}.{error}") from None

    @property
    def wait(self) -> float:
        """Seconds: as given, or the kind's default."""
        return _SECONDS.get(self.kind, 0.0) if self.seconds is None else self.seconds

    @property
    def size(self) -> int:
        """Bytes: as given, or the kind's default."""
        return self.bytes or _BYTES.get(self.kind, 1)

    def hits(self, path: str, page: int | None) -> bool:
        """Whether a request for this path and page is hit."""
        return path.startswith(self.path or "/") and self.page in {None, page}

    def as_dict(self) -> dict[str, Any]:
        """Give what was set, in the form ``parse`` reads."""
        fields = {name: value for name, value in asdict(self).items() if value is not None}
        return fields if self.kind == "status" else {name: fields[name] for name in fields if name != "status"}


def _read_seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ScenarioError(f"seconds: expected a number, not {value!r}")
    if not (math.isfinite(value) and 0 <= value <= _LONGEST):
        raise ScenarioError(f"seconds: expected 0 to {_LONGEST}, not {value}")
    return float(value)


def _check_retry_after(value: Any) -> None:
    """Refuse what cannot be a header value: it would split the head of the reply."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return
    if not (isinstance(value, str) and value.isascii() and value.isprintable()):
        raise ScenarioError(f"retry_after: expected seconds or a printable text, not {value!r}")


def parse_faults(value: Any) -> list[Fault]:
    """Read a list of faults, or raise ``ScenarioError`` naming the place."""
    return [Fault.parse(item, place) for place, item in read_list(value, "faults")]


_NAMESPACE = UUID("5a1d8f0e-6f0c-5c57-9f6e-5d6c1b7a2e40")

_FIELDS: Mapping[str, Reader] = {
    "id": read_identifier,
    "name": read_text,
    "entitlement": read_identifier,
    "type": make_optional(make_choice_reader("EntitlementType")),
    "source_type": make_optional(make_choice_reader("SourceType")),
    "source_id": make_optional(read_identifier),
    "units": make_optional(read_text),
    "contract": make_optional(read_text),
    "product": make_optional(read_text),
    "invoice": make_optional(read_text),
    "active_from": make_optional(read_moment),
    "expiry_at": make_optional(read_moment),
    "quantity": make_optional(read_number),
    "quantity_used": make_optional(read_number),
    "quantity_remaining": make_optional(read_number),
    "created_at": make_optional(read_moment),
    "contract_id": make_optional(read_identifier),
    "event": make_optional(read_text),
    "invoice_id": make_optional(read_identifier),
    "status": make_optional(make_choice_reader("EntitlementCustomerStatus")),
}
_ECHOED = ("feature_option_value", "numeric_value")
_CUSTOMER = ("id", "name", "email", "external_id", "grants")
_SCENARIO = ("api_key", "organisation", "customers", "faults", "usage_slugs")


def derive_id(*parts: object) -> str:
    """Derive an id from what it stands for: the same in every run."""
    return str(uuid5(_NAMESPACE, "/".join(map(str, parts))))


@dataclass(frozen=True, slots=True)
class ScenarioGrant:
    """One row to be given to a customer.

    Attributes:
        values: The documented fields that were given, read; dates may be relative to the start.
        echoed: Undocumented fields to show as they are: ``feature_option_value``, ``numeric_value`` and
            whatever ``raw`` held, which replaces documented fields too (to make malformed rows).
    """

    values: Mapping[str, Any]
    echoed: Mapping[str, Any]

    @classmethod
    def parse(cls, value: Any, place: str) -> "ScenarioGrant":
        """Read a grant, or raise ``ScenarioError`` naming the place."""
        fields = read_mapping(value, place, [*_FIELDS, *_ECHOED, "raw"], ["name"])
        values = {name: _FIELDS[name](item, f"{place}.{name}") for name, item in fields.items() if name in _FIELDS}
        echoed = {name: fields[name] for name in _ECHOED if name in fields}
        raw = fields.get("raw", {})
        if not isinstance(raw, Mapping):
            raise ScenarioError(f"{place}.raw: expected an object")
        return cls(values, {**echoed, **raw})


@dataclass(frozen=True, slots=True)
class Customer:
    """Who is billed, with the grants of the start."""

    id: str
    name: str
    email: str | None = None
    external_id: str | None = None
    grants: tuple[ScenarioGrant, ...] = ()

    @classmethod
    def parse(cls, value: Any, place: str) -> "Customer":
        """Read a customer, or raise ``ScenarioError`` naming the place."""
        fields = read_mapping(value, place, _CUSTOMER, ["name"])
        name = read_text(fields["name"], f"{place}.name")
        external = make_optional(read_text)(fields.get("external_id"), f"{place}.external_id")
        own = fields.get("id", derive_id("customer", external or name))
        return cls(
            id=read_identifier(own, f"{place}.id"),
            name=name,
            email=make_optional(read_text)(fields.get("email"), f"{place}.email"),
            external_id=external,
            grants=tuple(
                ScenarioGrant.parse(item, at) for at, item in read_list(fields.get("grants", []), f"{place}.grants")
            ),
        )


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything a sandbox starts with.

    >>> Scenario.parse({"api_key": "k", "organisation": "00000000-0000-4000-8000-000000000001"}).customers
    ()
    """

    api_key: str
    organisation: str
    customers: tuple[Customer, ...] = ()
    faults: tuple[Fault, ...] = ()
    usage_slugs: tuple[str, ...] = ()

    @classmethod
    def default(cls) -> "Scenario":
        """Read the scenario that ships with the package: one free, one paying and one lapsed customer."""
        data = files(__package__).joinpath("default_scenario.json").read_bytes()
        return cls.parse(read_json(data))

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Scenario":
        """Read a scenario from a JSON file.

        Raises:
            ScenarioError: The file cannot be read, is no JSON, or says what cannot be; one line.
        """
        try:
            data = read_json(Path(path).read_bytes())
        except OSError as error:
            raise ScenarioError(f"{path}: {error.strerror}") from error
        except ValueError as error:
            raise ScenarioError(f"{path}: not JSON: {error}") from error
        return cls.parse(data)

    @classmethod
    def parse(cls, value: Any) -> "Scenario":
        """Read a scenario from a mapping, or raise ``ScenarioError`` naming the place."""
        fields = read_mapping(value, "", _SCENARIO, ["api_key", "organisation"])
        slugs = read_list(fields.get("usage_slugs", []), "usage_slugs")
        return cls(
            api_key=read_text(fields["api_key"], "api_key"),
            organisation=read_identifier(fields["organisation"], "organisation"),
            customers=_read_customers(fields.get("customers", [])),
            faults=tuple(parse_faults(fields.get("faults", []))),
            usage_slugs=tuple(read_text(item, at) for at, item in slugs),
        )


def _read_customers(value: Any) -> tuple[Customer, ...]:
    places: dict[str, str] = {}
    customers = []
    for place, item in read_list(value, "customers"):
        customer = Customer.parse(item, place)
        if customer.id in places:
            raise ScenarioError(f"{place}.id: {customer.id} is the id of {places[customer.id]} too")
        places[customer.id] = place
        customers.append(customer)
    return tuple(customers)

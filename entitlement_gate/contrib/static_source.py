"""``StaticSource``: plans and customers in a YAML, JSON or TOML file, for self-hosted editions and local work.

>>> gate = EntitlementGate(StaticSource("plans.yaml"))  # doctest: +SKIP - needs the file

The file is read at each fetch, and parsed again where it has changed. Its format is described in
``docs/how-to/use-another-source.md``.
"""

from __future__ import annotations

import difflib
import json
import re
import time
import tomllib
from collections.abc import Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, uuid5

from entitlement_gate.domain.errors import CustomerNotFound, SourceMalformed, SourceUnavailable
from entitlement_gate.domain.grants import EntitlementType, Grant, Snapshot
from entitlement_gate.domain.numbers import exact_number
from entitlement_gate.domain.rule import canonical_uuid
from entitlement_gate.resilience.fork_safety import Locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from os import PathLike

    from entitlement_gate.resilience.clock import Clock

__all__ = ["StaticSource"]

Grants = tuple[Grant, ...]

_EVERYBODY = "*"
_YAML_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_NOT_OF_ITS_TAG = (AttributeError, LookupError, TypeError)  # what PyYAML raises of "!!bool 5", and the like
_WITH_ZEROS = re.compile(r"[-+]?0[0-9]+")


class StaticSource(Locked):
    """A source for ``EntitlementGate`` that answers from a file. Thread-safe.

    A file that is removed or becomes invalid while the process runs fails each fetch until it is corrected: a gate then
    serves stale snapshots, for as long as ``stale_if_error``.

    Args:
        path: ends in ``.yaml``, ``.yml``, ``.json`` or ``.toml``.
        clock: dates the snapshots.

    Raises:
        ValueError: the file cannot be read, or says what cannot be; the message names the line, or the place.
        ImportError: it is YAML, and PyYAML is not installed.
    """

    def __init__(self, path: str | PathLike[str], *, clock: Clock = time) -> None:
        super().__init__()
        self._path = Path(path)
        self._clock = clock
        self._read = _choose_reader(self._path)
        try:
            self._data = self._path.read_bytes()
        except OSError as error:
            raise ValueError(f"{self._path}: {error.strerror}") from error
        self._customers: Mapping[str, Grants] = self._parse(self._data)
        self._mistake: str | None = None

    def fetch(self, customer_id: str) -> Snapshot:
        """Return the customer's grants, as the file has them now.

        Raises:
            CustomerNotFound: the file names neither the customer nor everybody.
            SourceUnavailable: the file cannot be read any more.
            SourceMalformed: it says what cannot be; the text names the line, or the place.
        """
        at = self._clock.time()
        customers = self._load()
        grants = customers.get(customer_id, customers.get(_EVERYBODY))
        if grants is None:
            raise CustomerNotFound("the file does not name this customer")
        return Snapshot(customer_id, grants, at)

    def _load(self) -> Mapping[str, Grants]:
        """Return what the file says. Bytes are compared, not dates: it may be replaced twice within one tick."""
        with self._lock:
            try:
                data = self._path.read_bytes()
            except OSError as error:
                raise SourceUnavailable(f"{self._path}: {error.strerror}") from error
            if data != self._data:
                customers, mistake = self._customers, None
                try:
                    customers = self._parse(data)
                except ValueError as error:
                    mistake = str(error)
                # Last, and together: what a time limit interrupts is parsed again.
                self._customers, self._mistake, self._data = customers, mistake, data
            if self._mistake is not None:
                raise SourceMalformed(self._mistake)
            return self._customers

    def _parse(self, data: bytes) -> Mapping[str, Grants]:
        try:
            return _parse_customers(self._read(data.decode("utf-8-sig")))
        except RecursionError as error:
            raise ValueError(f"{self._path}: it is nested too deeply") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{self._path}: not UTF-8: byte {error.start}") from error
        except ValueError as error:
            raise ValueError(f"{self._path}: {error}") from error

    def __repr__(self) -> str:
        return f"<StaticSource {str(self._path)!r} of {len(self._customers)} customers>"


def _choose_reader(path: Path) -> Callable[[str], Any]:
    read_toml = partial(tomllib.loads, parse_float=Decimal)  # its errors name the line
    readers: dict[str, Callable[[str], Any]] = {
        ".json": _read_json,
        ".toml": read_toml,
        ".yaml": _read_yaml,
        ".yml": _read_yaml,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path}: its name ends in {', '.join(readers)}")
    if reader is _read_yaml:
        _import_yaml()
    return reader


def _read_json(text: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal, object_pairs_hook=_refuse_duplicates)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}, column {error.colno}: {error.msg}") from error


def _import_yaml() -> Any:
    try:
        import yaml  # noqa: PLC0415 - an extra, and only of those who write YAML
    except ImportError as error:
        raise ImportError(f"YAML cannot be read here: install entitlement_gate[yaml]: {error}") from error
    return yaml


def _read_yaml(text: str) -> Any:
    yaml = _import_yaml()
    try:
        return yaml.load(text, _make_yaml_loader(yaml))
    except yaml.MarkedYAMLError as error:
        raise ValueError(f"line {error.problem_mark.line + 1}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _make_yaml_loader(yaml: Any) -> Any:
    """Return what refuses more than YAML does, with the line."""

    @contextmanager
    def marking(node: Any) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise yaml.MarkedYAMLError(problem=str(error), problem_mark=node.start_mark) from error
        except _NOT_OF_ITS_TAG as error:
            problem = f"this is not what its tag says: {node.tag}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # known only where PyYAML is
        """Refuses one key twice, of which the last would count, and numbers that are not what they look like."""

        def compose_mapping_node(self, anchor: Any) -> Any:
            node = super().compose_mapping_node(anchor)
            with marking(node):
                _refuse_duplicates((key.value, None) for key, _ in node.value if isinstance(key.value, str))
            return node

        def construct_object(self, node: Any, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 - as PyYAML calls it
            with marking(node):
                return super().construct_object(node, deep)

        def construct_scalar_of_kind(self, node: Any) -> Any:
            exact = None if node.tag == _YAML_TIMESTAMP else _read_yaml_number(node.value)
            plain = yaml.SafeLoader.yaml_constructors[node.tag](self, node)
            return exact if isinstance(plain, float) and exact is not None else plain

    for tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", _YAML_TIMESTAMP):
        Loader.add_constructor(tag, Loader.construct_scalar_of_kind)
    return Loader


def _read_yaml_number(text: str) -> Decimal | None:
    """Return the number that a text is; None for what is left to YAML, such as ``0x1F``.

    Raises:
        ValueError: YAML takes it for another: ``12:30:00`` is one to base 60, and ``0100`` one to base 8.
    """
    digits = text.replace("_", "")
    if ":" in digits or _WITH_ZEROS.fullmatch(digits):
        raise ValueError(f"{text!r} is another number in YAML: write it without colons and leading zeros")
    return exact_number(digits)


def _refuse_duplicates(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    mapping: dict[Any, Any] = {}
    for key, value in pairs:
        if key in mapping:
            raise ValueError(f"{key!r} stands there twice")
        mapping[key] = value
    return mapping


def _parse_customers(document: Any) -> dict[str, Grants]:
    """Return the grants of each customer in the file, and of everybody else.

    Raises:
        ValueError: names the place. Customers are counted from 0: an error is logged, and must not contain an id.
    """
    content = _read_mapping(document, "the file", ("plans", "customers"))
    plans = {
        name: _parse_grants(grants, f"plans.{name}", name)
        for name, grants in _read_mapping(content.get("plans"), "plans").items()
    }
    customers: dict[str, Grants] = {}
    for position, (key, value) in enumerate(_read_mapping(content.get("customers"), "customers").items()):
        place = f"customers[{position}]"
        customer_id = key if key == _EVERYBODY else canonical_uuid(key)
        if customer_id is None:
            raise ValueError(f'{place}: a customer is a UUID, or "*" for everybody else')
        if customer_id in customers:
            raise ValueError(f"{place}: the customer stands there twice")
        customers[customer_id] = _parse_customer(value, place, plans)
    return customers


def _parse_customer(value: Any, place: str, plans: Mapping[str, Grants]) -> Grants:
    """Return the rows of a customer's plans, less those of names for which it has grants of its own, and these."""
    fields = _read_mapping(value, place, ("plans", "grants")) if isinstance(value, Mapping) else {"plans": value}
    own = _parse_grants(fields.get("grants"), f"{place}.grants", "own")
    names = fields.get("plans", [])
    names = names if isinstance(names, list) else [names]
    rows: list[Grant] = []
    for name in names:
        if not (isinstance(name, str) and name in plans):
            raise ValueError(f"{place}: the name of a plan, or a list of them, not {name!r}{_make_hint(name, plans)}")
        if names.count(name) > 1:
            raise ValueError(f"{place}: the plan {name!r} stands there twice")
        rows += plans[name]
    own_names = {grant.name for grant in own}
    return (*(row for row in rows if row.name not in own_names), *own)


def _parse_grants(grants: Any, place: str, giver: str) -> Grants:
    return tuple(
        _parse_grant(name, value, f"{place}.{name}", giver) for name, value in _read_mapping(grants, place).items()
    )


_FIELDS = ("type", "quantity", "used", "units", "status", "active_from", "expires_at", "entitlement_id")
_STATUSES = ("active", "draft", "expired", "voided")


def _parse_grant(name: str, value: Any, place: str, giver: str) -> Grant:
    """Return a row: a Feature for true or false, a Quantity for a number, or as its fields say."""
    if isinstance(value, bool):
        fields: Mapping[str, Any] = {"type": "Feature"}
    elif isinstance(value, Mapping):
        fields = _read_mapping(value, place, _FIELDS)
    elif value is None:  # what stands for a number, or for its fields, was left out
        raise ValueError(f"{place}: true, false, a number or fields, not nothing")
    else:
        fields = {"quantity": value}
    quantity = _read_optional(_read_number, fields, "quantity", place)
    kind = EntitlementType.QUANTITY if "quantity" in fields else EntitlementType.FEATURE
    return Grant(
        id=f"{giver}/{name}",
        name=name,
        entitlement_id=_read_optional(_read_identifier, fields, "entitlement_id", place)
        or str(uuid5(NAMESPACE_OID, name)),
        type=_read_optional(_make_choice_reader(EntitlementType), fields, "type", place) or kind,
        status=_read_optional(_make_choice_reader(_STATUSES), fields, "status", place) or "active",
        units=_read_optional(_read_text, fields, "units", place),
        active_from=_read_optional(_read_instant, fields, "active_from", place),
        expires_at=_read_optional(_read_instant, fields, "expires_at", place),
        quantity=quantity,
        used=_read_optional(_read_number, fields, "used", place),
        is_disabled=value is False,
    )


def _read_mapping(value: Any, place: str, keys: Iterable[str] = ()) -> Mapping[str, Any]:
    """Read a mapping of texts; of no others than ``keys``, where any are named."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{place}: a mapping, not {value!r}")
    for key in value:
        if not (isinstance(key, str) and key):
            raise ValueError(f"{place}: a name is a text, so write it in quotes: {key!r}")
        if keys and key not in keys:
            raise ValueError(f"{place}: one of {', '.join(keys)}, not {key!r}{_make_hint(key, keys)}")
    return value


def _read_optional(read: Callable[[Any, str], Any], fields: Mapping[str, Any], name: str, place: str) -> Any:
    return None if fields.get(name) is None else read(fields[name], f"{place}.{name}")


def _read_number(value: Any, place: str) -> Decimal:
    number = exact_number(repr(value) if isinstance(value, float) else value)
    if number is None:
        raise ValueError(f"{place}: a number, not {value!r}")
    return number


def _read_text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{place}: a text, not {value!r}")
    return value


def _read_identifier(value: Any, place: str) -> str:
    identifier = canonical_uuid(value) if isinstance(value, str) else None
    if identifier is None:
        raise ValueError(f"{place}: a UUID, not {value!r}")
    return identifier


def _make_choice_reader(words: Iterable[str]) -> Callable[[Any, str], str]:
    def read(value: Any, place: str) -> str:
        for word in words:
            if value == word:
                return word
        raise ValueError(f"{place}: one of {', '.join(words)}, not {value!r}")

    return read


def _read_instant(value: Any, place: str) -> datetime:
    """Read an instant, in UTC where it says nothing else; a day is its first instant."""
    try:
        instant = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        instant = None
    if isinstance(instant, date) and not isinstance(instant, datetime):
        return datetime(instant.year, instant.month, instant.day, tzinfo=UTC)
    if not isinstance(instant, datetime):
        raise ValueError(f"{place}: a date in ISO 8601, not {value!r}")
    return instant


def _make_hint(word: Any, choices: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, choices, n=1) if isinstance(word, str) else []
    return f" (did you mean {near[0]!r}?)" if near else ""

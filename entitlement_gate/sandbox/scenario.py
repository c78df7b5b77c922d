"""A scenario: the customers, grants, faults and keys a sandbox starts with, read from JSON.

Never here: what happens after the start, or anything that depends on the time of day.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from entitlement_gate.sandbox import exact
from entitlement_gate.sandbox.faults import Fault, parse_faults
from entitlement_gate.sandbox.reading import (
    Reader,
    ScenarioError,
    identifier,
    listed,
    mapping,
    moment,
    number,
    one_of,
    optional,
    text,
)

__all__ = ["Customer", "Grant", "Scenario", "derived_id"]

_NAMESPACE = UUID("5a1d8f0e-6f0c-5c57-9f6e-5d6c1b7a2e40")

_FIELDS: Mapping[str, Reader] = {
    "id": identifier,
    "name": text,
    "entitlement": identifier,
    "type": optional(one_of("EntitlementType")),
    "source_type": optional(one_of("SourceType")),
    "source_id": optional(identifier),
    "units": optional(text),
    "contract": optional(text),
    "product": optional(text),
    "invoice": optional(text),
    "active_from": optional(moment),
    "expiry_at": optional(moment),
    "quantity": optional(number),
    "quantity_used": optional(number),
    "quantity_remaining": optional(number),
    "created_at": optional(moment),
    "contract_id": optional(identifier),
    "event": optional(text),
    "invoice_id": optional(identifier),
    "status": optional(one_of("EntitlementCustomerStatus")),
}
_ECHOED = ("feature_option_value", "numeric_value")
_CUSTOMER = ("id", "name", "email", "external_id", "grants")
_SCENARIO = ("api_key", "organisation", "customers", "faults", "usage_slugs")


def derived_id(*parts: object) -> str:
    """Derive an id from what it stands for: the same in every run."""
    return str(uuid5(_NAMESPACE, "/".join(map(str, parts))))


@dataclass(frozen=True, slots=True)
class Grant:
    """One row to be given to a customer.

    Attributes:
        values: The documented fields that were given, read; dates may be relative to the start.
        echoed: Undocumented fields to show as they are: ``feature_option_value``, ``numeric_value`` and
            whatever ``raw`` held, which replaces documented fields too (to make malformed rows).
    """

    values: Mapping[str, Any]
    echoed: Mapping[str, Any]

    @classmethod
    def parse(cls, value: Any, place: str) -> "Grant":
        """Read a grant, or raise ``ScenarioError`` naming the place."""
        given = mapping(value, place, [*_FIELDS, *_ECHOED, "raw"])
        if "name" not in given:
            raise ScenarioError(f"{place}: 'name' is missing")
        values = {name: _FIELDS[name](item, f"{place}.{name}") for name, item in given.items() if name in _FIELDS}
        echoed = {name: given[name] for name in _ECHOED if name in given}
        raw = given.get("raw", {})
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
    grants: tuple[Grant, ...] = ()

    @classmethod
    def parse(cls, value: Any, place: str) -> "Customer":
        """Read a customer, or raise ``ScenarioError`` naming the place."""
        given = mapping(value, place, _CUSTOMER)
        if "name" not in given:
            raise ScenarioError(f"{place}: 'name' is missing")
        name = text(given["name"], f"{place}.name")
        external = optional(text)(given.get("external_id"), f"{place}.external_id")
        own = given.get("id", derived_id("customer", external or name))
        return cls(
            id=identifier(own, f"{place}.id"),
            name=name,
            email=optional(text)(given.get("email"), f"{place}.email"),
            external_id=external,
            grants=tuple(Grant.parse(item, at) for at, item in listed(given.get("grants", []), f"{place}.grants")),
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
        return cls.parse(exact.loads(data))

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Scenario":
        """Read a scenario from a JSON file.

        Raises:
            ScenarioError: The file cannot be read, is no JSON, or says what cannot be; one line.
        """
        try:
            data = exact.loads(Path(path).read_bytes())
        except OSError as error:
            raise ScenarioError(f"{path}: {error.strerror}") from error
        except ValueError as error:
            raise ScenarioError(f"{path}: not JSON: {error}") from error
        return cls.parse(data)

    @classmethod
    def parse(cls, value: Any) -> "Scenario":
        """Read a scenario from a mapping, or raise ``ScenarioError`` naming the place."""
        given = mapping(value, "", _SCENARIO)
        for name in ("api_key", "organisation"):
            if name not in given:
                raise ScenarioError(f"scenario: {name!r} is missing")
        slugs = listed(given.get("usage_slugs", []), "usage_slugs")
        return cls(
            api_key=text(given["api_key"], "api_key"),
            organisation=identifier(given["organisation"], "organisation"),
            customers=_customers(given.get("customers", [])),
            faults=tuple(parse_faults(given.get("faults", []))),
            usage_slugs=tuple(text(item, at) for at, item in slugs),
        )


def _customers(value: Any) -> tuple[Customer, ...]:
    places: dict[str, str] = {}
    customers = []
    for place, item in listed(value, "customers"):
        customer = Customer.parse(item, place)
        if customer.id in places:
            raise ScenarioError(f"{place}.id: {customer.id} is the id of {places[customer.id]} too")
        places[customer.id] = place
        customers.append(customer)
    return tuple(customers)

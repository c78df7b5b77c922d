"""What is documented of the billing endpoint (``facts.json``), and the OpenAPI document made from it.

Facts about the endpoint stand in the data file, not in code.
"""

import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

__all__ = ["LIMIT", "POPULATES", "SORTS", "documented", "enum", "openapi", "row_fields", "sort_keys"]

# Where the endpoint's own document is silent the sandbox must choose: these are its choices. 100 is what a
# sibling endpoint documents.
LIMIT = (1, 10, 100)
POPULATES = ("customer", "contract", "product", "invoice")
SORTS = ("asc", "desc")


@cache
def documented() -> Mapping[str, Any]:
    """Read the facts, once."""
    text = files(__package__).joinpath("facts.json").read_text(encoding="utf-8")
    facts: Mapping[str, Any] = json.loads(text)
    return facts


def enum(name: str) -> tuple[str, ...]:
    """List the values of a documented enumeration."""
    return tuple(documented()["enums"][name])


def row_fields() -> tuple[str, ...]:
    """List the fields of a row in documented order."""
    return tuple(documented()["schemas"]["Row"])


@cache
def sort_keys() -> tuple[str, ...]:
    """List the fields a list can be sorted by: those that are no object."""
    row = documented()["schemas"]["Row"]
    return tuple(name for name, fact in row.items() if "type" in fact or "enum" in fact)


def openapi(customer_ids: Iterable[str] = (), version: str = "0") -> dict[str, Any]:
    """Describe the listing endpoint as the sandbox answers it: the documented facts and its own choices.

    Args:
        customer_ids: Given as examples of a customer id, so that a tester finds rows.
        version: The document's version.
    """
    facts = documented()
    operation = facts["operation"]
    parameters = [_make_parameter(name, fact) for name, fact in facts["parameters"].items()]
    parameters[0]["examples"] = {f"c{n}": {"value": value} for n, value in enumerate(customer_ids)}
    security: dict[str, list[str]] = {name: [] for name in facts["security"]}
    description = {
        "operationId": operation["id"],
        "summary": operation["summary"],
        "parameters": parameters,
        "responses": _make_responses(),
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Zenskar billing sandbox", "version": version},
        "security": [security],
        "paths": {operation["path"]: {operation["method"]: description}},
        "components": _make_components(facts),
    }


def _make_components(facts: Mapping[str, Any]) -> dict[str, Any]:
    enums = {name: {"type": "string", "enum": values} for name, values in facts["enums"].items()}
    objects = {name: _make_object(fields) for name, fields in facts["schemas"].items()}
    schemes = {name: {"type": "apiKey", "in": "header", "name": header} for name, header in facts["security"].items()}
    own = {"Unauthorized": _make_refusal("Message"), "NotFound": _make_refusal("detail")}
    return {"schemas": {**enums, **objects, **own}, "securitySchemes": schemes}


def _make_refusal(field: str) -> dict[str, Any]:
    return {"type": "object", "properties": {field: {"type": "string"}}, "required": [field]}


def _make_object(fields: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    properties = {name: _make_schema(fact) for name, fact in fields.items()}
    required = [name for name, fact in fields.items() if fact["required"]]
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def _make_schema(fact: Mapping[str, Any]) -> dict[str, Any]:
    """Turn one fact into JSON Schema: its alternatives, with null among them where it may be null."""
    options = [_make_reference(fact[key]) for key in ("enum", "object") if key in fact]
    if "type" in fact:
        options.insert(0, {key: fact[key] for key in ("type", "format") if key in fact})
    if "list_of" in fact:
        item = fact["list_of"]
        items = _make_reference(item) if isinstance(item, str) else {"anyOf": [{"type": name} for name in item]}
        options.append({"type": "array", "items": items})
    if fact["nullable"]:
        options.append({"type": "null"})
    return options[0] if len(options) == 1 else {"anyOf": options}


def _make_reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _make_parameter(name: str, fact: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a parameter; null is left out, for a query has no way to say it but leaving it out."""
    schema = {key: fact[key] for key in ("type", "format", "default") if key in fact}
    schema |= _make_choices().get(name, {})
    return {"name": name, "in": fact["in"], "required": fact["required"], "schema": schema}


def _make_choices() -> dict[str, dict[str, Any]]:
    one = "|".join(POPULATES)
    return {
        "limit": {"minimum": LIMIT[0], "default": LIMIT[1], "maximum": LIMIT[2]},
        "sort_key": {"enum": list(sort_keys())},
        "sort_type": {"enum": list(SORTS)},
        "populate": {"pattern": f"^({one})(,({one}))*$"},
    }


def _make_responses() -> dict[str, Any]:
    schemas = {"200": "Page", "401": "Unauthorized", "404": "NotFound", "422": "Errors"}
    return {
        status: {"description": name, "content": {"application/json": {"schema": _make_reference(name)}}}
        for status, name in schemas.items()
    }

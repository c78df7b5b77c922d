"""The facts against what the endpoint documents, written down here a second time and independently."""

import pytest

from entitlement_gate.sandbox import facts

# name: type, format or the enumeration or object, required, may be null
ROW = {
    "id": ("string", "uuid", True, False),
    "entitlement": ("string", "uuid", True, False),
    "name": ("string", None, True, False),
    "type": (None, "EntitlementType", False, True),
    "source_type": (None, "SourceType", False, True),
    "source_id": ("string", "uuid", False, True),
    "units": ("string", None, True, True),
    "customer": ("string", "uuid", True, False),
    "contract": (None, "Details", False, True),
    "product": (None, "Details", False, True),
    "invoice": (None, "Details", False, True),
    "active_from": ("string", "date-time", False, True),
    "expiry_at": ("string", "date-time", False, True),
    "quantity": ("number", None, False, True),
    "quantity_used": ("number", None, False, True),
    "quantity_remaining": ("number", None, False, True),
    "created_at": ("string", "date-time", False, True),
    "contract_id": ("string", "uuid", False, True),
    "event": ("string", None, False, True),
    "invoice_id": ("string", "uuid", False, True),
    "status": (None, "EntitlementCustomerStatus", False, True),
}
PAGE = {
    "next": ("string", None, False, True),
    "previous": ("string", None, False, True),
    "total_count": ("integer", None, False, True),
    "results": (None, "Row", True, False),
}
DETAILS = {
    "id": ("string", "uuid", False, True),
    "name": ("string", None, False, True),
    "email": ("string", None, False, True),
}
ERROR = {
    "loc": (None, ["string", "integer"], True, False),
    "msg": ("string", None, True, False),
    "type": ("string", None, True, False),
}
QUERY = {
    "cursor": "string",
    "limit": "integer",
    "sort_key": "string",
    "sort_type": "string",
    "search": "string",
    "populate": "string",
    "status": "string",
}


def condensed(fields):
    return {name: condensed_field(fact) for name, fact in fields.items()}


def condensed_field(fact):
    kind = fact.get("type")
    form = fact.get("format") if kind else fact.get("enum") or fact.get("object") or fact.get("list_of")
    return (kind, form, fact["required"], fact["nullable"])


@pytest.mark.parametrize(("schema", "fields"), [("Row", ROW), ("Page", PAGE), ("Details", DETAILS), ("Error", ERROR)])
def test_a_schema_is_as_documented(schema, fields):
    assert condensed(facts.documented()["schemas"][schema]) == fields


def test_the_customer_of_a_row_may_be_an_object():
    assert facts.documented()["schemas"]["Row"]["customer"]["object"] == "Details"


def test_errors_are_a_list_that_may_be_absent():
    assert facts.documented()["schemas"]["Errors"] == {
        "detail": {"list_of": "Error", "required": False, "nullable": False}
    }


def test_the_parameters_are_as_documented():
    parameters = dict(facts.documented()["parameters"])
    path = {"in": "path", "type": "string", "format": "uuid", "required": True, "nullable": False}
    assert parameters.pop("customer_id") == path
    assert {name: fact["type"] for name, fact in parameters.items()} == QUERY
    assert all(fact["nullable"] and not fact["required"] for fact in parameters.values())
    assert {fact["in"] for fact in parameters.values()} == {"query"}
    assert {name: fact["default"] for name, fact in parameters.items() if "default" in fact} == {"limit": 10}


def test_the_enumerations_are_as_documented():
    assert facts.enum("EntitlementType") == ("Feature", "Quantity", "Credits")
    assert facts.enum("SourceType") == ("Grant", "Billable", "Rollover", "Adjustment")
    assert facts.enum("EntitlementCustomerStatus") == ("draft", "active", "expired", "voided")


def test_the_operation_and_its_keys_are_as_documented():
    documented = facts.documented()
    assert documented["operation"]["id"] == "List-customer-entitlements"
    assert documented["operation"]["path"] == "/entitlements/customer/{customer_id}"
    assert documented["operation"]["method"] == "get"
    assert documented["security"] == {"ApiTokenAuth": "x-api-key", "OrganisationAuth": "organisation"}
    assert documented["statuses"] == [200, 422]


def test_what_the_sandbox_answers_with_is_never_less_than_what_is_documented():
    operation = facts.openapi()["paths"]["/entitlements/customer/{customer_id}"]["get"]
    assert {int(status) for status in operation["responses"]} >= set(facts.documented()["statuses"])

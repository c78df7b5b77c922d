import json

from entitlement_gate.sandbox import facts


def test_every_reference_in_the_document_leads_somewhere():
    document = facts.openapi()
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    text = json.dumps(document)
    used = {part.split('"')[0] for part in text.split('"$ref": "')[1:]}
    assert used <= known


def test_the_document_says_which_answers_there_are():
    operation = facts.openapi()["paths"]["/entitlements/customer/{customer_id}"]["get"]
    assert list(operation["responses"]) == ["200", "401", "404", "422"]


def test_a_nullable_field_may_be_null_and_another_may_not():
    row = facts.openapi()["components"]["schemas"]["Row"]["properties"]
    assert row["name"] == {"type": "string"}
    assert row["units"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert {"$ref": "#/components/schemas/Details"} in row["customer"]["anyOf"]


def test_lists_are_sorted_by_anything_but_objects():
    assert set(facts.row_fields()) - set(facts.sort_keys()) == {"contract", "product", "invoice"}

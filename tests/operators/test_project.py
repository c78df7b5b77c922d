from __future__ import annotations

import pytest
from django.test import override_settings

from entitlement_gate.operators.project import find_calls, find_template_uses

SOURCE = """
has_entitlement(request, "first")
entitlement_gate.acheck_entitlement(customer, "second", 3)
require_entitlement(customer=customer, entitlement="third")
Requirement("fourth") & Requirement(name)
@requires_entitlement("fifth")
def view(request): ...
other_entitlement(customer, "no")
has_entitlement(customer, 5)
has_entitlement()
lookup["has_entitlement"](customer, "no")
@consumes_entitlement("sixth", customer="customer")
def task(customer): ...
"""


def test_literal_names_in_calls_are_read_and_nothing_is_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in (("a/code.py", SOURCE), ("broken.py", "has_entitlement(("), ("plain.py", "x = 1")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "x.py").write_text(SOURCE)
    found = {(each.name, each.where) for each in find_calls([tmp_path])}
    assert found == {
        ("first", "a/code.py:2"), ("second", "a/code.py:3"), ("third", "a/code.py:4"), ("fourth", "a/code.py:5"),
        ("fifth", "a/code.py:6"), ("sixth", "a/code.py:12"),
    }  # fmt: skip


DJANGO = """{% load entitlements %}
{# {% ifentitled "commented" %} #}
{% verbatim %}{% ifentitled "verbatim" %}{% endverbatim %}
{% ifentitled "sso" %}{% else %}{% endifentitled %}
{% entitlement name 3 as seats %}{{ seats.remaining }}
{% if entitled %}{% endif %}{% ifentitled %}
{% comment "why" %}{% ifentitled "silent" %}{% endifentitled %}{% endcomment %}
"""
JINJA = """{# {{ entitled("commented") }}
#}{%- raw %}{{ entitled("raw") }}{% endraw -%}
{% if entitled("sso") and entitled('api calls', 3) %}{{ entitlement(name).remaining }}{% endif %}
"""
DJANGO_BACKEND = "django.template.backends.django.DjangoTemplates"


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "page.html").write_text(DJANGO)
    (tmp_path / "other.html").write_text("nothing here")
    (tmp_path / "image.png").write_bytes(b"\xff\xfe ntitle")
    return tmp_path


def used():
    return [
        (use.by, use.name, use.arguments, use.where)
        for use in find_template_uses()
        if use.where.startswith(("deep", "page"))
    ]


EXPECTED = [
    ("{% ifentitled %}", "sso", '"sso"', "deep/page.html:4"),
    ("{% entitlement %}", None, "name 3", "deep/page.html:5"),
]


def test_tags_are_found_but_not_in_comments(directory):
    with override_settings(TEMPLATES=[{"BACKEND": DJANGO_BACKEND, "DIRS": [directory]}]):
        assert used() == EXPECTED


def test_directories_of_nested_loaders_are_searched(directory):
    loaders = [
        ("django.template.loaders.cached.Loader", [("django.template.loaders.filesystem.Loader", [str(directory)])]),
        ("django.template.loaders.locmem.Loader", {}),
    ]
    with override_settings(TEMPLATES=[{"BACKEND": DJANGO_BACKEND, "OPTIONS": {"loaders": loaders}}]):
        assert used() == EXPECTED


def test_calls_in_jinja_templates_are_found(directory):
    (directory / "deep" / "page.html").write_text(JINJA)
    with override_settings(TEMPLATES=[{"BACKEND": "django.template.backends.jinja2.Jinja2", "DIRS": [directory]}]):
        assert used() == [
            ("entitled()", "sso", '"sso"', "deep/page.html:3"),
            ("entitled()", "api calls", "'api calls' 3", "deep/page.html:3"),
            ("entitlement()", None, "name", "deep/page.html:3"),
        ]

from __future__ import annotations

import pytest
from django.test import override_settings

from entitlement_gate.operators.names_in_templates import template_uses

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
        (use.by, use.name, use.asked, use.where) for use in template_uses() if use.where.startswith(("deep", "page"))
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

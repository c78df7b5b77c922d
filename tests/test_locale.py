from __future__ import annotations

import gettext
import re
from pathlib import Path

import pytest
from django.template.loader import render_to_string
from django.utils.translation import override

import entitlement_gate
from entitlement_gate import responses
from entitlement_gate.domain.decisions import Decision, Reason, RequestFault

OF_DJANGO = {"Home", "Name"}  # which its admin and its own catalogue translate
LOCALE = Path(entitlement_gate.__file__).parent / "locale"


def messages():
    package = LOCALE.parent
    code = "".join((package / name).read_text(encoding="utf-8") for name in ("refusals.py", "admin.py"))
    pages = "".join(path.read_text(encoding="utf-8") for path in (package / "templates").rglob("*.html"))
    words = re.findall(r'_\("((?:[^"\\]|\\.)+)"\)', code)
    return {*words, *re.findall(r'{% translate "(.+?)" %}', pages)} - OF_DJANGO


@pytest.mark.parametrize("language", [path.name for path in LOCALE.iterdir()])
def test_every_sentence_is_translated(language):
    with (LOCALE / language / "LC_MESSAGES/django.mo").open("rb") as compiled:
        known = gettext.GNUTranslations(compiled)
    assert len(messages()) > 40
    assert [text for text in messages() if known.gettext(text) == text] == []


@pytest.mark.parametrize("reason", [*(reason for reason in Reason if reason.outcome != "allowed"), *RequestFault])
def test_every_refusal_has_words_in_each_language(reason):
    decision = Decision.of(reason, "reports")
    english = (str(responses.title_of(decision)), str(responses.detail_of(decision)))
    with override("de"):
        german = (str(responses.title_of(decision)), str(responses.detail_of(decision)))
    assert all(english)
    assert all(a != b for a, b in zip(english, german, strict=True))


@pytest.mark.parametrize(("language", "direction"), [("de", "ltr"), ("ar", "rtl")])
def test_the_page_follows_the_direction_of_the_language(language, direction):
    decision = Decision.of(Reason.NOT_ENTITLED, "reports")
    with override(language):
        page = render_to_string("entitlement_gate/denied.html", {"decision": decision, "title": "t", "detail": "d"})
    assert f'<html lang="{language}" dir="{direction}">' in page

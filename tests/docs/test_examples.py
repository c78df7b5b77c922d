"""The examples of the pages compile, and run where they say so."""

import doctest
import json
import sys
import textwrap
import types

import pytest
from django.core.signals import request_finished
from django.template import Engine, RequestContext
from django.test import RequestFactory, override_settings

from entitlement_gate import signals
from entitlement_gate.conf import Settings, unknown_keys
from entitlement_gate.context_processors import entitlements
from entitlement_gate.sandbox import Scenario
from tests.docs.pages import DOCS, GUIDES, PAGES, blocks_of, name_of

SANDBOX = {"BASE_URL": "sandbox:"}
PRO = "20000000-0000-4000-8000-000000000002"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_python_block_compiles(page):
    for block in blocks_of(page):
        if block.language == "python":
            compile(textwrap.dedent(block.text), f"{name_of(page)}:{block.line}", "exec")


@pytest.mark.parametrize("page", [page for page in GUIDES if page.parent.name == "how-to"], ids=name_of)
@override_settings(ENTITLEMENT_GATE=SANDBOX)
def test_the_examples_of_a_guide_run(page, monkeypatch):
    module = types.ModuleType("example")
    for signal in (signals.entitlement_checked, signals.entitlement_denied):
        monkeypatch.setattr(signal, "receivers", [])
    # A response that is closed ends a request, for which Django looks at the connections that other tests have made.
    monkeypatch.setattr(request_finished, "receivers", [])
    monkeypatch.setitem(sys.modules, "example", module)
    for block in blocks_of(page):
        if block.mark == "run" and block.language == "python":
            exec(compile(block.text, f"{name_of(page)}:{block.line}", "exec"), vars(module))
            _check_settings(vars(module).pop("ENTITLEMENT_GATE", None))
        if block.mark == "run" and block.language == "pycon":
            _run_session(block, page, vars(module))


def test_every_session_is_run():
    for page in PAGES:
        assert all(block.mark == "run" for block in blocks_of(page) if block.language == "pycon"), name_of(page)


def _run_session(block, page, namespace):
    said = []
    session = doctest.DocTestParser().get_doctest(block.text, namespace, name_of(page), name_of(page), block.line)
    outcome = doctest.DocTestRunner(verbose=False).run(session, out=said.append, clear_globs=False)
    namespace.update(session.globs)
    assert outcome.failed == 0, "".join(said)


def _check_settings(settings):
    if settings is not None:
        assert unknown_keys(settings) == {}
        Settings.read(settings)


@override_settings(
    ENTITLEMENT_GATE={**SANDBOX, "ALIASES": {"api_calls": "API Calls"}, "CUSTOMER_RESOLVER": lambda _: PRO}
)
def test_the_templates_of_the_guide_render():
    request = RequestFactory().get("/")
    said = [
        Engine(libraries={"entitlements": "entitlement_gate.templatetags.entitlements"})
        .from_string(block.text)
        .render(RequestContext(request, {"request": request}, processors=[entitlements]))
        for block in blocks_of(DOCS / "how-to" / "use-templates.md")
        if block.mark == "run" and block.language == "html"
    ]
    assert len(said) == 2
    assert all(text in said[0] for text in ("/sso/", "Export", "2 of 5 seats"))
    assert "/plans/" not in said[0]
    assert said[1].split() == ["…", "2"]


def test_the_scenario_of_the_guide_is_one():
    texts = [block.text for block in blocks_of(DOCS / "how-to" / "use-the-sandbox.md") if block.mark == "scenario"]
    assert [[customer.name for customer in Scenario.parse(json.loads(text)).customers] for text in texts] == [
        ["Trial Tools"]
    ]

"""The table of docs/reference/view-shapes.md: 15 shapes in 8 settings, each let in and refused."""

from itertools import product

import pytest

from entitlement_gate import Requirement
from tests.customers import FREE, LAPSED, PRO
from tests.views.browsers import GATE, MIDDLEWARE, OURS, Browser
from tests.views.page import PAGE, page
from tests.views.shapes import COLOURS, HANDLERS, MIDDLEWARES, SHAPES

CELLS = list(product(SHAPES, COLOURS, HANDLERS, MIDDLEWARES))
each_cell = pytest.mark.parametrize("cell", CELLS, ids=lambda cell: "-".join((cell[0].slug, *cell[1:])))
REPORTS = Requirement("reports")

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.views.urls")]


@pytest.fixture
def site(settings):
    def site(handler, middleware, customer=None):
        settings.ENTITLEMENT_GATE = GATE
        settings.MIDDLEWARE = [*MIDDLEWARE, OURS] if middleware == "with" else MIDDLEWARE
        return Browser(handler, customer)

    return site


def test_the_table_has_120_cells():
    assert len(SHAPES) == 15
    assert len(CELLS) == 120


@each_cell
def test_a_customer_with_the_entitlement_is_let_in(site, cell):
    shape, colour, handler, middleware = cell
    response = site(handler, middleware, PRO).get(f"/{shape.slug}/{colour}/")
    assert (response.status_code, response.content) == (200, b"in")


@each_cell
def test_a_customer_without_it_is_refused(site, cell):
    shape, colour, handler, middleware = cell
    response = site(handler, middleware, FREE).get(f"/{shape.slug}/{colour}/", accept="application/json")
    assert response.status_code == 403
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["code"] == "not_entitled"
    assert response.json()["entitlement"] == "reports"
    assert "no-store" in response.headers["Cache-Control"]


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("slug", ["under-login-required", "dispatch-list"])
def test_a_login_required_above_goes_first(site, slug, colour, handler):
    response = site(handler, "with").get(f"/{slug}/{colour}/", accept="application/json")
    assert response.status_code == 302
    assert response.headers["Location"] == f"/accounts/login/?next=/{slug}/{colour}/"


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("colour", COLOURS)
def test_a_gate_above_login_required_goes_first(site, colour, handler):
    response = site(handler, "with").get(f"/over-login-required/{colour}/", accept="application/json")
    assert (response.status_code, response.json()["code"]) == (403, "no_customer")


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("colour", COLOURS)
def test_of_stacked_gates_the_outer_one_refuses_first(site, colour, handler):
    response = site(handler, "with", LAPSED).get(f"/stacked/{colour}/", accept="application/json")
    assert response.json()["entitlement"] == "reports"


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("colour", COLOURS)
def test_cache_control_above_a_gate_cannot_make_a_refusal_storable(site, colour, handler):
    response = site(handler, "with", FREE).get(f"/under-cache-control/{colour}/")
    assert "no-store" in response.headers["Cache-Control"]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.slug)
def test_every_shape_lists_what_it_requires(shape, colour):
    view = shape.view(colour)
    listed = view.view_class.get if shape.slug == "method" else view
    expected = (REPORTS, Requirement("seats", 2)) if shape.slug == "stacked" else (REPORTS,)
    assert listed.entitlement_requirements == expected


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("slug", ["under-csrf-exempt", "over-csrf-exempt", "dispatch-list"])
def test_csrf_exempt_survives_on_either_side(slug, colour):
    shape = next(shape for shape in SHAPES if shape.slug == slug)
    assert shape.view(colour).csrf_exempt is True


def test_the_page_of_the_docs_shows_this_table():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.views.page > docs/reference/view-shapes.md"

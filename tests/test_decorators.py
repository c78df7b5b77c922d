import asyncio
import inspect
from functools import partial, wraps

import pytest
from asgiref.sync import iscoroutinefunction
from django.contrib.auth.decorators import login_required
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import AsyncRequestFactory, RequestFactory
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import cache_control

from entitlement_gate import EntitlementDenied, EntitlementUnavailable, Requirement, requires_entitlement
from entitlement_gate.decorators import requirements_of
from tests.customers import FREE, PRO, SETTINGS
from tests.views.browsers import asked, broken

A, B, C = Requirement("a"), Requirement("b"), Requirement("c")


@pytest.fixture(autouse=True)
def resolver(settings):
    settings.ENTITLEMENT_GATE = SETTINGS


def ask(view, customer=PRO, path="/", **headers):
    """Call a view as a handler would: in an event loop when it is marked async."""
    factory = AsyncRequestFactory() if iscoroutinefunction(view) else RequestFactory()
    request = factory.get(path, headers={"X-Customer": customer or "", "Accept": "application/json", **headers})
    request.user = AnonymousUser()
    return asyncio.run(view(request)) if iscoroutinefunction(view) else view(request)


def in_colour(colour, function):
    """Return the plain function, or its async twin."""
    if colour == "sync":
        return function

    @wraps(function)
    async def twin(*args, **kwargs):
        return function(*args, **kwargs)

    return twin


def enters(request, *args, **kwargs):
    return HttpResponse("in")


@pytest.fixture(params=["sync", "async"])
def colour(request):
    return request.param


@pytest.fixture
def view(colour):
    return in_colour(colour, enters)


@pytest.fixture
def view_class(colour):
    return type("Plain", (View,), {"get": in_colour(colour, lambda self, request: HttpResponse("in"))})


# What survives


def test_a_view_keeps_its_name_signature_attributes_and_colour(colour):
    def report(request, year: int, slug: str = "") -> HttpResponse:
        """Show a report."""

    view = in_colour(colour, report)
    view.login_required = False
    gated = requires_entitlement("reports")(view)
    assert (gated.__name__, gated.__doc__, gated.__module__) == ("report", "Show a report.", __name__)
    assert inspect.signature(gated) == inspect.signature(report)
    assert gated.__wrapped__ is view
    assert gated.login_required is False
    assert iscoroutinefunction(gated) is (colour == "async")


def test_path_parameters_reach_the_view():
    @requires_entitlement("reports")
    def report(request, year, *, slug):
        return HttpResponse(f"{year} {slug}")

    request = RequestFactory().get("/", headers={"X-Customer": PRO})
    assert report(request, 2026, slug="q1").content == b"2026 q1"


def test_as_view_keeps_its_class_and_arguments(view_class, colour):
    gated = requires_entitlement("reports")(view_class.as_view())
    assert gated.view_class is view_class
    assert gated.view_initkwargs == {}
    assert iscoroutinefunction(gated) is (colour == "async")
    assert ask(gated).content == b"in"
    assert ask(gated, FREE).status_code == 403


def test_a_view_of_functools_partial_and_of_a_callable_object_is_gated(view):
    class Feed:
        def __call__(self, request):
            return HttpResponse("feed")

    gate = requires_entitlement("reports")
    assert ask(gate(partial(view, year=1))).content == b"in"
    assert ask(gate(Feed())).content == b"feed"
    assert ask(gate(Feed()), FREE).status_code == 403


def test_a_framework_request_around_djangos_is_understood():
    class Wrapped:
        def __init__(self, request):
            self._request = request

    gated = requires_entitlement("reports")(enters)
    assert gated(Wrapped(RequestFactory().get("/", headers={"X-Customer": PRO}))).content == b"in"
    assert gated(Wrapped(RequestFactory().get("/", headers={"X-Customer": FREE}))).status_code == 403


@pytest.mark.parametrize("decorate", [lambda view: view, lambda view: type("Class", (View,), {"get": view}).as_view()])
@pytest.mark.parametrize(("customer", "status"), [(PRO, 200), (FREE, 403)])
def test_a_request_may_be_given_by_its_name(colour, decorate, customer, status):
    gated = requires_entitlement("reports")(decorate(in_colour(colour, lambda *_, **__: HttpResponse("in"))))
    answer = gated(request=RequestFactory().get("/", headers={"X-Customer": customer}))
    assert (asyncio.run(answer) if colour == "async" else answer).status_code == status


@pytest.mark.parametrize("args", [(), ("no request",), (View(), RequestFactory().get("/"))])
def test_something_else_than_a_request_says_what_to_do(args):
    with pytest.raises(TypeError, match="'enters': the first argument is no request; on a method use method_decorator"):
        requires_entitlement("reports")(enters)(*args)


# Classes


def test_a_class_is_gated_and_stays_itself(view_class):
    assert requires_entitlement("reports")(view_class) is view_class
    assert ask(view_class.as_view()).content == b"in"
    assert ask(view_class.as_view(), FREE).status_code == 403


def test_gating_a_class_leaves_its_parents_alone(view_class):
    gated = requires_entitlement("reports")(type("Child", (view_class,), {}))
    assert ask(view_class.as_view(), FREE).content == b"in"
    assert not hasattr(view_class, "entitlement_requirements")
    assert not hasattr(View.dispatch, "entitlement_requirements")
    assert ask(gated.as_view(), FREE).status_code == 403


def test_a_subclass_is_gated_once_and_its_own_gate_comes_on_top(view_class):
    asked_for = []

    def noting(name):
        return requires_entitlement("reports", customer=lambda request: asked_for.append(name) or PRO)

    parent = noting("parent")(view_class)
    child = type("Child", (parent,), {})
    assert ask(child.as_view()).content == b"in"
    assert asked_for == ["parent"]
    asked_for.clear()
    assert ask(noting("child")(child).as_view()).content == b"in"
    assert asked_for == ["child", "parent"]
    asked_for.clear()
    ask(parent.as_view())
    assert asked_for == ["parent"]


def test_a_gated_class_does_not_skip_what_its_siblings_check(view_class, colour):
    gate = requires_entitlement
    left = gate("reports")(type("Left", (view_class,), {}))
    right = gate("seats", 6)(type("Right", (view_class,), {}))
    both = type("Both", (left, right), {})
    assert ask(both.as_view()).status_code == 402
    assert requirements_of(both) == (Requirement("reports"), Requirement("seats", 6))


def test_a_gated_class_lets_a_login_mixin_beside_it_check(settings):
    gated = requires_entitlement("reports")(type("Gated", (View,), {}))
    view_class = type("Page", (gated, LoginRequiredMixin, View), {"get": lambda self, request: HttpResponse("in")})
    assert ask(view_class.as_view()).status_code == 302


def test_a_class_that_overrides_dispatch_is_gated_before_it(view_class):
    def dispatch(self, request):
        self.passed = True
        return view_class.dispatch(self, request)

    gated = requires_entitlement("reports")(type("Overriding", (view_class,), {"dispatch": dispatch}))
    assert ask(gated.as_view()).content == b"in"
    assert ask(gated.as_view(), FREE).status_code == 403


def test_a_subclass_that_overrides_dispatch_is_gated_where_it_calls_super(view_class):
    gated = requires_entitlement("reports")(view_class)

    class Early(gated):
        def dispatch(self, request):
            self.early = True
            return super().dispatch(request)

    assert ask(Early.as_view()).content == b"in"
    assert ask(Early.as_view(), FREE).status_code == 403
    assert requirements_of(Early.as_view()) == (Requirement("reports"),)


def test_a_base_without_handlers_leaves_the_colour_to_its_subclasses(colour):
    base = requires_entitlement("reports")(type("Base", (View,), {}))
    get = in_colour(colour, lambda self, request: HttpResponse("in"))
    child = type("Child", (base,), {"get": get}).as_view()
    assert iscoroutinefunction(child) is (colour == "async")
    assert ask(child).content == b"in"
    assert ask(child, FREE).status_code == 403


def test_a_class_with_handlers_of_both_colours_is_refused_as_by_django():
    class Mixed(View):
        def get(self, request):
            """Sync."""

        async def post(self, request):
            """Async."""

    with pytest.raises(ImproperlyConfigured, match="must either be all sync or all async"):
        requires_entitlement("reports")(Mixed)


@pytest.mark.parametrize("decorated", [int, type("Model", (), {})])
def test_a_class_that_is_no_view_is_refused(decorated):
    with pytest.raises(TypeError, match=f"{decorated.__name__} is a class that is none"):
        requires_entitlement("reports")(decorated)


def _page(request):
    return HttpResponse("in")


class Methods(View):
    """Where a gate stands on a method."""

    def get(self, request):
        return HttpResponse("in")

    async def post(self, request):
        return HttpResponse("in")

    def boost(this, request, pk):  # noqa: N805 - under another name
        return HttpResponse("in")

    def head(self, *args):
        return HttpResponse("in")

    def put(this, req):  # noqa: N805 - under another name
        return HttpResponse("in")

    async def patch(view, r, pk):  # noqa: N805 - under another name
        return HttpResponse("in")

    def delete(*args):
        return HttpResponse("in")

    def retrieve(me, r, pk):  # noqa: N805 - under another name
        return HttpResponse("in")

    def dispatch(me, *args):  # noqa: N805 - under another name
        return HttpResponse("in")

    listed = login_required(get)
    decorated = method_decorator(cache_control(private=True))(get)
    static = staticmethod(_page)


@pytest.mark.parametrize(
    "name",
    ["get", "post", "boost", "head", "put", "patch", "delete", "retrieve", "dispatch", "listed", "decorated"],
)
@pytest.mark.parametrize("consume", [True, False])
def test_a_method_is_told_to_use_method_decorator_where_it_is_decorated(name, consume):
    with pytest.raises(TypeError, match=r"Methods\.\w+: it is a method; use @method_decorator\(requires_entitlement"):
        requires_entitlement("reports", consume=consume)(vars(Methods)[name])


class Pages:
    """A class that only holds views together."""

    @staticmethod
    @requires_entitlement("reports")
    def get(request, pk=1):
        return HttpResponse("in")

    @staticmethod
    @requires_entitlement("reports")
    def head(r):
        return HttpResponse("in")

    @staticmethod
    @requires_entitlement("reports")
    def shown(r, pk=1):
        return HttpResponse("in")


@pytest.mark.parametrize("view", [Pages.get, Pages.head, Pages.shown])
def test_a_view_that_a_class_only_holds_is_gated(view):
    assert (ask(view, FREE).status_code, ask(view, PRO).status_code) == (403, 200)


def test_what_only_looks_like_a_method_is_gated():
    @method_decorator(login_required, name="dispatch")
    class Page(View):
        def get(self, request):
            return HttpResponse("in")

    def shown(request, this=None):
        return HttpResponse("in")

    gate = requires_entitlement("reports")
    assert ask(gate(Page.as_view()), FREE).status_code == 403
    for view in (shown, partial(shown), Methods.static, Methods().get, wraps(Methods().get)(lambda request: None)):
        assert ask(gate(view), FREE).status_code == 403


@pytest.mark.parametrize("decorated", [None, "app.views.index", ()])
def test_what_cannot_be_called_is_refused(decorated):
    with pytest.raises(TypeError, match="gates views, not"):
        requires_entitlement("reports")(decorated)


# method_decorator


def between(view):
    """A decorator of somebody else, who never heard of async views."""

    @wraps(view)
    def passing(*args, **kwargs):
        return view(*args, **kwargs)

    return passing


@pytest.mark.parametrize(
    "decorators",
    [
        lambda gate: gate,
        lambda gate: [gate],
        lambda gate: [gate, between],
        lambda gate: [between, gate, between],
        lambda gate: [cache_control(private=True), gate],
        lambda gate: [gate, requires_entitlement("seats")],
    ],
)
def test_method_decorator_on_dispatch_works_among_any_others(view_class, decorators):
    gate = requires_entitlement("reports")
    gated = method_decorator(decorators(gate), name="dispatch")(type("Gated", (view_class,), {}))
    assert ask(gated.as_view()).content == b"in"
    assert ask(gated.as_view(), FREE).status_code == 403
    assert ask(view_class.as_view(), FREE).content == b"in"


def test_method_decorator_twice_on_dispatch_enforces_and_tells_both(view_class):
    once = method_decorator(requires_entitlement("reports"), name="dispatch")(view_class)
    twice = method_decorator(requires_entitlement("seats", 6), name="dispatch")(once)
    assert ask(twice.as_view()).status_code == 402
    assert set(requirements_of(twice.as_view())) == {Requirement("reports"), Requirement("seats", 6)}


def test_method_decorator_on_a_method_gates_that_method_alone(colour):
    handler = in_colour(colour, lambda self, request: HttpResponse("in"))
    gated = method_decorator(requires_entitlement("reports"))(handler)
    view_class = type("Methods", (View,), {"get": gated, "post": handler})
    assert view_class.get.entitlement_requirements == (Requirement("reports"),)
    view = view_class.as_view()
    assert ask(view).content == b"in"
    assert ask(view, FREE).status_code == 403
    assert requirements_of(view) == (Requirement("reports"),)


def test_a_plain_answer_below_a_gate_on_an_async_dispatch_is_passed_on():
    """``login_required`` below the gate takes the bound ``dispatch`` for sync and answers with a redirect."""

    class Page(View):
        async def get(self, request):
            raise AssertionError("a stranger came in")

    gates = [requires_entitlement("reports"), login_required]
    assert ask(method_decorator(gates, name="dispatch")(Page).as_view()).status_code == 302


def test_login_required_above_a_gated_async_class_sees_that_it_is_async():
    @method_decorator(login_required, name="dispatch")
    @requires_entitlement("reports")
    class Page(View):
        async def get(self, request):
            return HttpResponse("in")

    class SignedIn(AnonymousUser):
        is_authenticated = True

    async def auser():
        return SignedIn()

    request = AsyncRequestFactory().get("/", headers={"X-Customer": PRO})
    request.auser = auser
    assert asyncio.run(Page.as_view()(request)).content == b"in"


# Listing


def test_gates_are_listed_in_the_order_they_are_enforced(view, view_class):
    gates = [requires_entitlement(name) for name in "abc"]
    for gated in (view, view_class, view_class.as_view()):
        for gate in reversed(gates):
            gated = gate(gated)  # noqa: PLW2901 - that is how gates are stacked
        assert gated.entitlement_requirements[:3] == (A, B, C)
        assert requirements_of(gated) == (A, B, C)
    assert view_class.as_view().entitlement_requirements == (A, B, C)


def test_a_view_without_gates_requires_nothing(view, view_class):
    assert requirements_of(view) == requirements_of(view_class) == requirements_of(view_class.as_view()) == ()


# Arguments


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"entitlement": ""}, ValueError, "needs a name"),
        ({"entitlement": None}, TypeError, "not None"),
        ({"entitlement": enters}, TypeError, "not <function"),
        ({"quantity": 0}, ValueError, "quantity"),
        ({"quantity": True}, ValueError, "quantity"),
        ({"quantity": "many"}, ValueError, "quantity"),
        ({"quantity": [1]}, ValueError, "quantity"),
        ({"entitlement": A & B, "quantity": 1}, ValueError, "inside the Requirement"),
        ({"entitlement": A & B, "quantity": lambda _: 1}, ValueError, "inside the Requirement"),
        ({"entitlement": Requirement("a", 1), "quantity": lambda _: 1}, ValueError, "inside the Requirement"),
        ({"customer": PRO}, TypeError, "customer: a callable"),
        ({"on_unavailable": "maybe"}, ValueError, "on_unavailable"),
        ({"on_unavailable": True}, ValueError, "on_unavailable"),
        ({"on_denied": 403}, TypeError, "on_denied: a callable"),
        ({"on_denied": lambda request: None}, TypeError, "on_denied: a callable"),
        ({"customer": lambda: PRO}, TypeError, "customer: a callable"),
        ({"customer": lambda request, pk: PRO}, TypeError, "customer: a callable"),
        ({"consume": True, "key": lambda: "a"}, TypeError, "key: a callable"),
        ({"quantity": lambda: 1}, TypeError, "quantity: a callable"),
        ({"on_denied": "  "}, ValueError, "on_denied: the URL"),
    ],
)
def test_a_wrong_argument_is_refused_when_the_view_is_decorated(arguments, error, text):
    with pytest.raises(error, match=text):
        requires_entitlement(**{"entitlement": "reports", **arguments})


def test_a_quantity_may_depend_on_the_request(view, colour):
    @wraps(enters)
    def quantity(request):
        return request.GET["n"]

    gated = requires_entitlement("seats", quantity=in_colour(colour, quantity))(view)
    assert ask(gated, path="/?n=2").content == b"in"
    assert ask(gated, path="/?n=3").status_code == 402
    assert ask(gated, path="/?n=none").status_code == 400


def test_a_quantity_of_none_asks_for_none(view):
    assert ask(requires_entitlement("seats", quantity=lambda _: None)(view)).content == b"in"


@pytest.mark.parametrize("finder", ["sync", "async"])
def test_the_customer_may_be_found_by_the_gate(view, finder):
    gated = requires_entitlement("reports", customer=in_colour(finder, lambda request: request.GET["of"]))(view)
    assert ask(gated, FREE, path=f"/?of={PRO}").content == b"in"
    assert ask(gated, PRO, path=f"/?of={FREE}").status_code == 403
    assert ask(gated, PRO, path="/?of=somebody").status_code == 403
    assert len(asked()) == 2


@pytest.mark.parametrize("handler", ["sync", "async", "object"])
def test_a_refusal_may_be_answered_by_the_gate(view, handler):
    def answer(request, decision):
        return HttpResponse(decision.reason, status=418)

    class Answer:
        async def __call__(self, request, decision):
            return answer(request, decision)

    on_denied = Answer() if handler == "object" else in_colour(handler, answer)
    gated = requires_entitlement("reports", on_denied=on_denied)(view)
    assert ask(gated).content == b"in"
    response = ask(gated, FREE)
    assert (response.status_code, response.content) == (418, b"not_entitled")


def test_a_refusal_may_be_raised(view, settings, tmp_path):
    gated = requires_entitlement("reports", on_denied="raise")(view)
    assert ask(gated).content == b"in"
    with pytest.raises(EntitlementDenied, match="reports: not_entitled"):
        ask(gated, FREE)
    settings.ENTITLEMENT_GATE = broken(tmp_path)
    with pytest.raises(EntitlementUnavailable, match="reports: malformed_response"):
        ask(gated)


@pytest.mark.urls("tests.views.urls")
@pytest.mark.parametrize(
    ("to", "location"), [("/pricing/", "/pricing/"), ("https://shop.example/a", "https://shop.example/a")]
)
def test_a_refusal_may_be_a_redirect(view, to, location):
    response = ask(requires_entitlement("reports", on_denied=to)(view), FREE)
    assert (response.status_code, response.headers["Location"]) == (302, location)
    assert response.headers["Cache-Control"] == "no-store, private"
    assert response.headers["Vary"] == "Accept, Cookie, Authorization"


@pytest.mark.urls("tests.views.urls")
def test_a_redirect_may_go_to_a_named_url(view):
    response = ask(requires_entitlement("reports", on_denied="pricing")(view), FREE)
    assert response.headers["Location"] == "/pricing/"


def test_htmx_is_told_where_to_go_and_gets_no_page_for_its_fragment(view):
    answer = ask(requires_entitlement("sso", on_denied="/plans/")(view), FREE, **{"HX-Request": "true"})
    assert (answer.status_code, answer.headers["HX-Redirect"], "Location" in answer.headers) == (403, "/plans/", False)
    assert answer.headers["Cache-Control"] == "no-store, private"


def test_an_outage_redirects_nobody(view, settings, tmp_path):
    settings.ENTITLEMENT_GATE = broken(tmp_path)
    assert ask(requires_entitlement("reports", on_denied="/pricing/")(view)).status_code == 503


@pytest.fixture(params=["deny", "allow"])
def outage(request, settings, tmp_path):
    settings.ENTITLEMENT_GATE = {**broken(tmp_path), "ON_UNAVAILABLE": request.param}


@pytest.mark.parametrize("on_denied", [None, "raise", "/pricing/"])
def test_a_gate_may_let_in_what_could_not_be_checked(view, outage, on_denied):
    gate = requires_entitlement("reports", on_unavailable="allow", on_denied=on_denied)
    assert ask(gate(view)).content == b"in"


@pytest.mark.parametrize("on_denied", [None, "/pricing/"])
def test_a_gate_may_refuse_what_could_not_be_checked(view, outage, on_denied):
    gate = requires_entitlement("reports", on_unavailable="deny", on_denied=on_denied)
    assert ask(gate(view)).status_code == 503


def test_a_gate_may_raise_where_something_could_not_be_checked(view, outage):
    gated = requires_entitlement("reports", on_unavailable="deny", on_denied="raise")(view)
    with pytest.raises(EntitlementUnavailable) as caught:
        ask(gated)
    assert caught.value.decision.allowed is False


def test_a_failure_policy_of_a_gate_says_nothing_about_denials(view):
    assert ask(requires_entitlement("reports", on_unavailable="allow")(view), FREE).status_code == 403


def test_shadow_mode_goes_before_the_failure_policy_of_a_gate(view, settings, tmp_path):
    settings.ENTITLEMENT_GATE = {**broken(tmp_path), "SHADOW": True}
    assert ask(requires_entitlement("reports", on_unavailable="deny")(view)).content == b"in"

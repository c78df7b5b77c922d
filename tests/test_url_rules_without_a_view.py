"""Rules hold for whoever answers below the middleware: fallbacks, caches, files."""

from __future__ import annotations

import io
from types import ModuleType

import pytest
from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.contrib.auth.models import AnonymousUser
from django.core.cache import cache
from django.db import connection
from django.http import FileResponse, Http404, HttpResponse, HttpResponseRedirect
from django.template.response import SimpleTemplateResponse
from django.test import AsyncClient, Client, modify_settings, override_settings
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View
from rest_framework.decorators import api_view
from rest_framework.response import Response

from entitlement_gate.middleware import EntitlementMiddleware
from entitlement_gate.signals import entitlement_checked
from entitlement_gate.url_rules import entitlement_exempt
from tests.customers import FREE, PRO, SETTINGS

OURS = "entitlement_gate.middleware.EntitlementMiddleware"
HERE = __name__
acts: list[str] = []


def page(request):
    return HttpResponse("a view")


@entitlement_exempt
def free(request):
    return HttpResponse("a view")


@entitlement_exempt
def nowhere(request, page):
    raise Http404(page)


def finding(request, page):
    if "is_found" not in request.GET:
        raise Http404(page)
    return HttpResponse("found")


async def finding_later(request, page):
    return finding(request, page)


def giving(request, page):
    return HttpResponse(status=200 if "is_found" in request.GET else 404)


class Finds(View):
    def get(self, request, page):
        return finding(request, page)

    post = get


class FindsLater(View):
    async def get(self, request, page):
        return finding(request, page)

    post = get


class Dispatches(Finds):
    async def dispatch(self, request, page):
        return giving(request, page)


class Site:
    def index(self, request, page):
        return finding(request, page)


@api_view(["GET", "HEAD", "POST"])
def framework(request, page):
    return Response(finding(request._request, page).content)


LOST = {
    "raising": entitlement_exempt(finding),
    "raising-async": entitlement_exempt(finding_later),
    "giving": entitlement_exempt(giving),
    "class": entitlement_exempt(type("OfClass", (Finds,), {})).as_view(),
    "async-class": entitlement_exempt(type("OfAsyncClass", (FindsLater,), {})).as_view(),
    "own-dispatch": entitlement_exempt(Dispatches).as_view(),
    "inherited-dispatch": entitlement_exempt(type("OfDispatches", (Dispatches,), {})).as_view(),
    "subclass": type("Below", (entitlement_exempt(type("Above", (Finds,), {})),), {}).as_view(),
    "as-view": entitlement_exempt(FindsLater.as_view()),
    "dispatch": method_decorator(entitlement_exempt, "dispatch")(type("ByMethod", (Finds,), {})).as_view(),
    "bound": entitlement_exempt(Site().index),
    "framework": entitlement_exempt(framework),
}


@entitlement_exempt
def makes_up(request):
    LOST["giving"](request, "nowhere")
    return HttpResponse("instead")


lost = ModuleType("lost")
lost.urlpatterns = [
    path("premium/lost/made-up-for/", makes_up),
    *(path(f"premium/lost/{kind}/<path:page>", view) for kind, view in LOST.items()),
]
urlconf = ModuleType("urlconf")
urlconf.urlpatterns = [
    path("premium/all/<path:page>", nowhere),
    path("premium/view/", page, name="view"),
    path("premium/free/", free),
    path("shop/", include(([path("", page, name="index")], "shop"))),
]
other = ModuleType("other")
other.urlpatterns = [path("premium/free/", page), path("premium/elsewhere/", free), path("premium/late/", page)]


class Answers:
    """A middleware that answers some paths by itself, in either colour."""

    sync_capable = async_capable = True
    paths = ("/premium/page", "/open/page", "/premium/free/", "/premium/view/", "/shop/", "/static/a.css")

    def __init__(self, get_response):
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request):
        if request.path_info in self.paths:
            answer = self.answer(request)
            return self.later(answer) if iscoroutinefunction(self) else answer
        return self.get_response(request)

    def answer(self, request):
        acts.append(request.method)
        return HttpResponse("by a middleware")

    async def later(self, answer):
        return answer


class Sends(Answers):
    def answer(self, request):
        return FileResponse(io.BytesIO(b"paid for"))


class Preflights(Answers):
    """Answers for browsers, as a middleware for CORS does."""

    def answer(self, request):
        return HttpResponse(headers={"Access-Control-Allow-Origin": "*"})


class Renders(Answers):
    def answer(self, request):
        return SimpleTemplateResponse("entitlement_gate/denied.html").render()


class Redirects(Answers):
    def answer(self, request):
        return HttpResponseRedirect("https://files.example/signed")


class Fails(Answers):
    def answer(self, request):
        return HttpResponse("no", status=409)


class Falls(Answers):
    """Answers for what is not found, as the middleware for flat pages does."""

    def __call__(self, request):
        if iscoroutinefunction(self):
            return self.fall_back_later(request)
        response = self.get_response(request)
        return self.answer(request) if response.status_code == 404 else response

    async def fall_back_later(self, request):
        response = await self.get_response(request)
        return self.answer(request) if response.status_code == 404 else response


class Mends(Answers):
    """Answers for what a view raised."""

    paths = ()

    def process_exception(self, request, exception):
        return self.answer(request)


class Looks(Answers):
    """Answers for views once they are found."""

    paths = ()

    def process_view(self, request, *_):
        return self.answer(request)


class SignedIn(LoginRequiredMiddleware):
    def process_view(self, request, view_func, view_args, view_kwargs):
        request.user = AnonymousUser()
        return super().process_view(request, view_func, view_args, view_kwargs)


class LooksEmpty(Looks):
    def answer(self, request):
        return HttpResponse()


class LooksAway(Looks):
    def answer(self, request):
        return HttpResponseRedirect("https://files.example/signed")


class LooksOn(Looks):
    def answer(self, request):
        return HttpResponseRedirect("/terms/")


class LooksAtLogin(Looks):
    def answer(self, request):
        return HttpResponseRedirect("https://login.example/?next=/premium/view/")


class LooksDown(Looks):
    def answer(self, request):
        return HttpResponse("maintenance", status=503)


class Ours(EntitlementMiddleware):
    """A project's own kind of it, which leaves some views alone."""

    def process_view(self, request, *args):
        return None if "alone" in request.GET else super().process_view(request, *args)


class Elsewhere(Answers):
    def __call__(self, request):
        request.urlconf = other
        return super().__call__(request)


def template(request, decision):
    return SimpleTemplateResponse("entitlement_gate/denied.html", {"decision": decision}, status=418)


@pytest.fixture(autouse=True)
def _project():
    acts.clear()
    with override_settings(ROOT_URLCONF=urlconf, STATIC_URL="/static/"):
        yield


@pytest.fixture(params=["WSGI", "ASGI"])
async def ask(request):
    """Ask with these rules and this middleware below ours; through either door."""

    async def ask(rules, url, customer=FREE, *, below="Answers", above=None, ours=OURS, method="get", **gate):
        stack = [ours, below if "." in below else f"{HERE}.{below}"]
        stack = stack if above is None else [above if "." in above else f"{HERE}.{above}", *stack]
        with override_settings(ENTITLEMENT_GATE={**SETTINGS, **gate, "RULES": rules}, MIDDLEWARE=stack):
            client = Client() if request.param == "WSGI" else AsyncClient()
            send = getattr(client, method)
            answer = await (send if iscoroutinefunction(send) else sync_to_async(send))(
                url, headers={"X-Customer": customer}
            )
            await sync_to_async(answer.getvalue)()  # reads a file to its end, which closes it
        return answer.status_code

    return ask


PREMIUM = [{"path": "^/premium/", "requires": "reports"}]


@pytest.mark.parametrize("below", ["Answers", "Sends", "Redirects"])
async def test_what_a_middleware_answers_is_gated_by_its_path(ask, below):
    allowed = 302 if below == "Redirects" else 200
    assert await ask(PREMIUM, "/premium/page", below=below) == 403
    assert await ask(PREMIUM, "/premium/page", PRO, below=below) == allowed
    assert await ask(PREMIUM, "/open/page", below=below) == allowed


async def test_a_page_that_nobody_has_is_not_found_whoever_asks(ask):
    for customer in (FREE, PRO):
        for url in ("/premium/nowhere", "/nowhere"):
            assert await ask([*PREMIUM, {"path": "^/", "requires": "reports"}], url, customer) == 404


async def test_an_error_of_a_middleware_gives_nothing_away(ask):
    assert await ask(PREMIUM, "/premium/page", below="Fails") == 409


@pytest.mark.parametrize("method", ["post", "put", "delete"])
async def test_what_may_change_something_is_refused_before_it_does(ask, method):
    assert await ask(PREMIUM, "/premium/page", method=method) == 403
    assert acts == []
    assert await ask(PREMIUM, "/premium/page", PRO, method=method) == 200
    assert await ask(PREMIUM, "/open/page", method=method) == 200
    assert acts == [method.upper()] * 2


async def test_a_preflight_that_a_middleware_answers_is_let_through(ask):
    assert await ask(PREMIUM, "/premium/page", below="Preflights", method="options") == 200
    assert await ask(PREMIUM, "/premium/view/", above="LooksEmpty", below="Preflights", method="options") == 200


@pytest.mark.parametrize("below", ["Answers", "Sends", "Renders"])
async def test_what_has_a_body_is_no_preflight(ask, below):
    assert await ask(PREMIUM, "/premium/page", below=below, method="options") == 403
    assert await ask(PREMIUM, "/premium/page", PRO, below=below, method="options") == 200
    assert await ask(PREMIUM, "/open/page", below=below, method="options") == 200


async def test_a_body_for_options_uses_nothing_up(ask):
    rules = [{"path": "^/premium/", "requires": "API Calls", "quantity": 950, "consume": True}]
    for method in ("options", "options", "get"):
        assert await ask(rules, "/premium/page", PRO, method=method) == 200


@pytest.mark.parametrize("method", ["get", "post"])
async def test_a_view_that_answers_itself_is_asked_about_once(ask, method):
    told = []

    def hear(decision, **_):
        told.append(decision.allowed)

    entitlement_checked.connect(hear)
    try:
        with override_settings(ROOT_URLCONF=other):
            assert await ask(PREMIUM, "/premium/late/", PRO, method=method) == 200
            assert await ask(PREMIUM, "/premium/late/", method=method) == 403
            assert await ask(PREMIUM, "/premium/elsewhere/", method=method) == 200
    finally:
        entitlement_checked.disconnect(hear)
    assert told == [True, False]


@pytest.mark.parametrize(
    ("rule", "url"),
    [({"view": "view"}, "/premium/view/"), ({"namespace": "shop"}, "/shop/"), ({"path": "^/"}, "/premium/view/")],
)
async def test_a_view_whose_answer_comes_from_a_middleware_is_gated_by_its_name(ask, rule, url):
    rules = [{**rule, "requires": "reports"}]
    assert await ask(rules, url) == 403
    assert await ask(rules, url, PRO) == 200


async def test_an_exempt_view_stays_exempt_whoever_answers_in_its_place(ask):
    assert await ask(PREMIUM, "/premium/free/") == 200


@pytest.mark.parametrize("kind", LOST)
@pytest.mark.parametrize("method", ["get", "head", "post"])
async def test_what_an_exempt_view_does_not_find_is_gated_where_another_finds_it(ask, kind, method):
    url = f"/premium/lost/{kind}/flat/"
    with override_settings(ROOT_URLCONF=lost):
        assert await ask(PREMIUM, url, below="Falls", method=method) == 403
        assert await ask(PREMIUM, url, PRO, below="Falls", method=method) == 200
        assert await ask(PREMIUM, f"{url}?is_found", below="Falls", method=method) == 200


@pytest.mark.parametrize("kind", ["raising", "raising-async", "class", "async-class"])
async def test_what_an_exempt_view_raises_is_gated_where_another_mends_it(ask, kind):
    url = f"/premium/lost/{kind}/flat/"
    with override_settings(ROOT_URLCONF=lost):
        assert await ask(PREMIUM, url, below="Mends") == 403
        assert await ask(PREMIUM, url, PRO, below="Mends") == 200
        assert await ask(PREMIUM, f"{url}?is_found", below="Mends") == 200


async def test_an_exempt_view_may_make_up_for_another(ask):
    with override_settings(ROOT_URLCONF=lost):
        assert await ask(PREMIUM, "/premium/lost/made-up-for/", below="Falls") == 200


def test_an_exempt_view_may_be_called_with_what_is_no_request():
    assert entitlement_exempt(lambda text: text)("text") == "text"


async def test_what_an_exempt_view_does_not_find_stays_not_found(ask):
    assert await ask(PREMIUM, "/premium/all/flat/") == 404
    assert await ask(PREMIUM, "/premium/free/", below="Falls") == 200


@pytest.mark.parametrize("ours", [OURS, f"{HERE}.Ours"])
@pytest.mark.parametrize("rule", [{"path": "^/premium/"}, {"view": "view"}])
@pytest.mark.parametrize("method", ["get", "head", "post", "put"])
async def test_what_a_process_view_above_answers_is_gated_as_the_view_is(ask, ours, rule, method):
    rules = [{**rule, "requires": "reports"}]
    for above in ("Looks", "LooksAway"):
        allowed = 200 if above == "Looks" else 302
        asked = {"above": above, "ours": ours, "below": "Looks", "method": method}
        assert await ask(rules, "/premium/view/", **asked) == 403
        assert await ask(rules, "/premium/view/", PRO, **asked) == allowed
        assert await ask(rules, "/shop/", **asked) == allowed


async def test_a_process_view_above_that_gives_nothing_away_has_the_first_word(ask):
    assert await ask(PREMIUM, "/premium/view/", above="LooksOn", below="Looks") == 302
    assert await ask(PREMIUM, "/premium/view/", above="LooksDown", below="Looks") == 503
    assert await ask(PREMIUM, "/premium/view/", above="LooksAtLogin", below="Looks") == 403
    with override_settings(LOGIN_URL="https://login.example/"):
        assert await ask(PREMIUM, "/premium/view/", above="LooksAtLogin", below="Looks") == 302
    assert await ask(PREMIUM, "/premium/free/", above="Looks", below="Looks") == 200
    assert await ask(PREMIUM, "/premium/view/", above="Looks", below="Looks", method="options") == 403
    assert await ask(PREMIUM, "/premium/view/", above="LooksEmpty", below="Looks", method="options") == 200


async def test_djangos_own_middleware_sends_to_the_login_page_first(ask):
    above = f"{HERE}.SignedIn"
    with override_settings(LOGIN_URL="/login/"):
        assert await ask(PREMIUM, "/premium/view/", above=above, below="Looks") == 302


async def test_a_process_view_below_comes_after_the_rules(ask):
    assert await ask(PREMIUM, "/premium/view/", below="Looks", method="post") == 403
    assert acts == []
    assert await ask(PREMIUM, "/premium/view/", PRO, below="Looks") == 200


async def test_a_subclass_may_leave_a_view_alone(ask):
    ours = f"{HERE}.Ours"
    for customer, status in ((FREE, 403), (PRO, 200)):
        assert await ask(PREMIUM, "/premium/view/", customer, below="Looks", ours=ours) == status
    assert await ask(PREMIUM, "/premium/view/?alone", below="Looks", ours=ours) == 200


@pytest.mark.parametrize("method", ["post", "put", "delete"])
async def test_an_act_in_place_of_a_view_is_told_to_nobody_else(ask, method):
    assert await ask(PREMIUM, "/premium/view/", method=method) == 403
    assert await ask(PREMIUM, "/premium/view/", PRO, method=method) == 200


async def test_the_urls_are_those_of_the_request(ask):
    assert await ask(PREMIUM, "/premium/free/", below="Elsewhere") == 403


async def test_static_files_out_of_a_middleware_are_left_alone_by_a_rule_about_every_path(ask):
    assert await ask([{"path": "^/", "requires": "reports"}], "/static/a.css") == 200
    assert await ask([{"path": "^/static/", "requires": "reports"}], "/static/a.css") == 403
    with override_settings(STATIC_URL=None):
        assert await ask([{"path": "^/", "requires": "reports"}], "/static/a.css") == 403


async def test_a_refusal_that_is_a_template_response_is_rendered(ask):
    assert await ask(PREMIUM, "/premium/page", DENIED_HANDLER=template) == 418
    assert await ask(PREMIUM, "/premium/page", DENIED_HANDLER=template, method="post") == 418


CACHE = "django.middleware.cache"


async def test_a_page_out_of_the_sites_cache_is_gated(ask):
    cache.clear()
    stack = [f"{CACHE}.UpdateCacheMiddleware", OURS, f"{CACHE}.FetchFromCacheMiddleware"]
    rules = [{"view": "view", "requires": "reports"}]
    with override_settings(ENTITLEMENT_GATE={**SETTINGS, "RULES": rules}, MIDDLEWARE=stack):
        answers = [
            (await sync_to_async(Client().get)("/premium/view/", headers={"X-Customer": customer})).status_code
            for customer in (PRO, FREE, PRO)
        ]
    cache.clear()
    assert answers == [200, 403, 200]


@pytest.fixture
def flat_pages(transactional_db):
    with modify_settings(INSTALLED_APPS={"append": ["django.contrib.sites", "django.contrib.flatpages"]}):
        from django.contrib.flatpages.models import FlatPage
        from django.contrib.sites.models import Site

        with connection.schema_editor() as editor:
            editor.create_model(Site)
            editor.create_model(FlatPage)
        site = Site.objects.create(pk=1, domain="testserver", name="testserver")
        for url in ("/premium/flat/", "/open/flat/"):
            FlatPage.objects.create(url=url, title="flat", content="paid for").sites.add(site)
        with override_settings(SITE_ID=1):
            yield
        with connection.schema_editor() as editor:
            editor.delete_model(FlatPage)
            editor.delete_model(Site)


FLAT = "django.contrib.flatpages.middleware.FlatpageFallbackMiddleware"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {
            "loaders": [
                ("django.template.loaders.locmem.Loader", {"flatpages/default.html": "{{ flatpage.content }}"}),
                "django.template.loaders.app_directories.Loader",
            ]
        },
    }
]


@override_settings(TEMPLATES=TEMPLATES)
async def test_a_flat_page_is_gated_by_its_path(ask, flat_pages):
    assert await ask(PREMIUM, "/premium/flat/", below=FLAT) == 403
    assert await ask(PREMIUM, "/premium/flat/", PRO, below=FLAT) == 200
    assert await ask(PREMIUM, "/premium/flat/", below=FLAT, method="options") == 403
    assert await ask(PREMIUM, "/open/flat/", below=FLAT) == 200
    assert await ask(PREMIUM, "/premium/nowhere/", below=FLAT) == 404

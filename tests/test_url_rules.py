from __future__ import annotations

import re
from functools import wraps
from types import ModuleType
from urllib.parse import quote

import pytest
from asgiref.sync import iscoroutinefunction
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LogoutView
from django.http import HttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.urls import ResolverMatch, include, path, re_path, register_converter
from django.urls.converters import StringConverter, get_converters
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.static import serve
from hypothesis import example, given, seed
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from entitlement_gate.domain.requirements import Requirement
from entitlement_gate.url_rules import entitlement_exempt, is_exempt, is_logout, is_open, read_rules
from tests.customers import FREE, PRO, SETTINGS


def page(request, **kwargs):
    return HttpResponse("in")


async def async_page(request):
    return HttpResponse("in")


@entitlement_exempt
def open_page(request):
    return HttpResponse("in")


@entitlement_exempt
class OpenView(View):
    def get(self, request):
        return HttpResponse("in")


urlconf = ModuleType("urlconf")
inner = [path("deep/", page, name="deep")]
outer = [path("", page, name="index"), path("inner/", include((inner, "inner")))]
urlconf.urlpatterns = [
    path("reports/", page, name="reports"),
    path("reports/async/", async_page),
    path("reports/open/", open_page),
    path("reports/open-class/", OpenView.as_view()),
    path("reports/files/<path:path>", serve, {"document_root": "/nowhere"}),
    path("app/", include((outer, "app"))),
    path("apple/", page, name="apple"),
]


@pytest.fixture
def ask():
    def ask(rules, url, customer=FREE, *, method="get", urls=urlconf):
        with override_settings(ENTITLEMENT_GATE={**SETTINGS, "RULES": rules}, ROOT_URLCONF=urls):
            answer = getattr(Client(), method)(url, headers={"X-Customer": customer})
            answer.getvalue()  # reads a file to its end, which closes it
            return answer.status_code

    return ask


def test_a_rule_by_path_gates_what_it_matches(ask):
    rules = [{"path": r"^/reports/", "requires": "reports"}]
    assert ask(rules, "/reports/") == 403
    assert ask(rules, "/reports/", PRO) == 200
    assert ask(rules, "/apple/") == 200


def test_a_rule_by_view_name_gates_that_view_alone(ask):
    rules = [{"view": "app:index", "requires": "reports"}]
    assert ask(rules, "/app/") == 403
    assert ask(rules, "/app/inner/deep/") == 200
    assert ask([{"view": "app:inner:deep", "requires": "reports"}], "/app/inner/deep/") == 403


def test_a_rule_by_namespace_gates_all_that_is_below_it(ask):
    rules = [{"namespace": "app", "requires": "reports"}]
    assert ask(rules, "/app/") == 403
    assert ask(rules, "/app/inner/deep/") == 403
    assert ask(rules, "/apple/") == 200


def test_a_rule_may_be_for_some_methods_only(ask):
    rules = [{"path": "^/apple/", "methods": ["post"], "requires": "reports"}]
    assert ask(rules, "/apple/") == 200
    assert ask(rules, "/apple/", method="post") == 403


def test_a_rule_for_get_is_one_for_head_too(ask):
    rules = [{"path": "^/apple/", "methods": ["GET"], "requires": "reports"}]
    assert ask(rules, "/apple/", method="head") == 403
    assert ask(rules, "/apple/", method="post") == 200


def test_the_page_that_people_are_sent_to_for_a_login_is_left_alone(settings):
    rules = [{"path": "^/", "requires": "reports"}]
    gate = {**SETTINGS, "RULES": rules, "ANONYMOUS": "login"}
    with override_settings(ENTITLEMENT_GATE=gate, ROOT_URLCONF=urlconf, LOGIN_URL="apple"):
        sent = Client().get("/reports/")
        assert (sent.status_code, sent.headers["Location"]) == (302, "/apple/?next=/reports/")
        assert Client().get("/apple/").status_code == 200
    with override_settings(ENTITLEMENT_GATE={**gate, "ANONYMOUS": "deny"}, ROOT_URLCONF=urlconf, LOGIN_URL="apple"):
        assert Client().get("/apple/").status_code == 403


def test_a_bound_method_and_a_view_set_may_be_exempt(rf):
    class Site:
        def index(self, request):
            return "index"

    view = entitlement_exempt(Site().index)
    match = ResolverMatch(view, (), {})
    assert is_exempt(view, match)
    assert view(None) == "index"

    def as_view():
        """What Django REST framework gives, whose class is `cls`."""

    as_view.cls = entitlement_exempt(Site)
    assert is_exempt(as_view, match)


@pytest.mark.parametrize("around", [[], ["site"]])
def test_the_way_into_the_admin_is_exempt_wherever_the_admin_is_included(around):
    names = [*around, "admin"]
    assert is_exempt(page, ResolverMatch(page, (), {}, "login", names, names))
    assert not is_exempt(page, ResolverMatch(page, (), {}, "index", names, names))
    assert not is_exempt(page, ResolverMatch(page, (), {}, "login", [*names, "shop"], [*names, "shop"]))


@pytest.mark.parametrize("around", [[], ["site"]])
def test_the_way_out_is_djangos_view_or_the_admins(around):
    names = [*around, "admin"]
    assert is_logout(ResolverMatch(page, (), {}, "logout", names, names))
    assert is_logout(ResolverMatch(LogoutView.as_view(), (), {}, "out", around, around))
    assert not is_logout(ResolverMatch(page, (), {}, "index", names, names))
    assert not is_logout(ResolverMatch(page, (), {}, "logout", [*names, "shop"], [*names, "shop"]))
    assert not is_logout(ResolverMatch(OpenView.as_view(), (), {}, "logout", around, around))


def test_a_mark_of_login_not_required_is_a_views_own_where_no_framework_sets_it_on_all():
    def of_a_framework(request):
        return HttpResponse("in")

    of_a_framework.cls = View
    assert is_open(login_not_required(lambda request: None))
    assert not is_open(page)
    assert not is_open(login_not_required(of_a_framework))


async def test_an_exempt_bound_method_that_is_async_stays_so():
    class Site:
        async def index(self, request):
            return "index"

    view = entitlement_exempt(Site().index)
    assert iscoroutinefunction(view)
    assert await view(None) == "index"


def test_every_rule_that_matches_must_hold(ask):
    rules = [{"path": "^/apple/", "requires": "reports"}, {"path": "le/$", "requires": "API Calls", "quantity": 951}]
    assert ask(rules, "/apple/", PRO) == 402
    assert ask(rules[:1], "/apple/", PRO) == 200


def test_a_rule_takes_a_combined_requirement(ask):
    rules = [{"view": "apple", "requires": Requirement("nothing") | Requirement("reports")}]
    assert ask(rules, "/apple/", PRO) == 200
    assert ask(rules, "/apple/", FREE) == 403


@pytest.mark.parametrize("url", ["/reports/open/", "/reports/open-class/"])
def test_an_exempt_view_is_left_alone(ask, url):
    assert ask([{"path": "^/", "requires": "reports"}], url) == 200


@pytest.fixture
def paid(tmp_path):
    """URLs of files: Django's view, alone, within a decorator of Django's, and within a project's own view."""
    (tmp_path / "a.pdf").write_text("paid for")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.pdf").write_text("paid for, too")
    root = {"document_root": tmp_path}

    @wraps(serve)
    def own(*args, **kwargs):
        return serve(*args, **kwargs)

    files = ModuleType("files")
    files.urlpatterns = [
        path("files/<path:path>", serve, root, name="file"),
        path("uncached/<path:path>", never_cache(serve), root),
        path("own/<path:path>", own, root),
        path("shop/", include(([path("<path:path>", serve, root)], "shop"))),
    ]
    with override_settings(ROOT_URLCONF=files):
        yield files


EVERYTHING = ["^/", "^", "/", ".", ".*", "^/.", "^/.+", "^/.*$", r"\A/.*", "^.+$"]
NEARLY = [
    "^/($|files/|uncached/|shop/)",
    "^/((files|uncached|shop)/.*)?$",
    "^/(?!own/login/)",
    "^/.*/",
    "^/[^/]*/",
    "^/|/premium/",
    "(?i)^/",
    "^/[fus]",
]
FILES = ["/files/a.pdf", "/uncached/a.pdf", "/shop/a.pdf"]


@pytest.mark.parametrize("everything", EVERYTHING)
@pytest.mark.parametrize("url", FILES)
def test_a_rule_about_every_path_leaves_static_files_alone(ask, paid, everything, url):
    rules = [{"path": everything, "requires": "reports"}]
    with override_settings(STATIC_URL=f"/{url.split('/')[1]}/"):
        assert ask(rules, url, urls=paid) == 200
        assert ask([*rules, {"path": f"^{url}$", "requires": "reports"}], url, urls=paid) == 403


@pytest.mark.parametrize("everything", EVERYTHING)
@pytest.mark.parametrize("static", ["/static/", "/files/deep/", "https://cdn.example/files/", "/", None])
def test_files_elsewhere_may_be_paid_for(ask, paid, everything, static):
    rules = [{"path": everything, "requires": "reports"}]
    with override_settings(STATIC_URL=static):
        for url in (*FILES, "/files/deep/../a.pdf"):
            assert ask(rules, url, urls=paid) == 403
            assert ask(rules, url, PRO, urls=paid) == 200


@pytest.mark.parametrize("nearly", NEARLY)
@pytest.mark.parametrize("url", FILES)
def test_a_rule_that_leaves_a_path_out_is_about_all_others_files_too(ask, paid, nearly, url):
    rules = [{"path": nearly, "requires": "reports"}]
    with override_settings(STATIC_URL=f"/{url.split('/')[1]}/"):
        assert ask(rules, url, urls=paid) == 403
        assert ask(rules, url, PRO, urls=paid) == 200


@pytest.mark.parametrize(
    ("rule", "url"),
    [
        ({"path": "^/files/"}, "/files/a.pdf"),
        ({"path": "^/uncached/"}, "/uncached/a.pdf"),
        ({"path": r"\.pdf$"}, "/files/a.pdf"),
        ({"view": "file"}, "/files/a.pdf"),
        ({"namespace": "shop"}, "/shop/a.pdf"),
        ({"path": "^/"}, "/own/a.pdf"),
        ({"path": "^/"}, "/shop/a.pdf"),
    ],
)
@override_settings(STATIC_URL="/own/")
def test_files_that_a_rule_singles_out_are_paid_for(ask, paid, rule, url):
    rules = [{**rule, "requires": "reports"}]
    assert ask(rules, url, urls=paid) == 403
    assert ask(rules, url, PRO, urls=paid) == 200


@pytest.mark.parametrize(
    "url",
    [
        "/files/deep/b.pdf",
        "/files/x/../deep/b.pdf",
        "/files/./deep/b.pdf",
        "/files//deep/b.pdf",
        "/files/deep/./b.pdf",
        "/files//../deep/b.pdf",
        "/files/deep//b.pdf",
        "/files/deep%2Fb.pdf",
        "/files/deep/b.pdf/",
        "/files/x/..%2F.%2Fdeep/b.pdf",
    ],
)
def test_a_file_is_paid_for_by_whatever_path_it_is_had(ask, paid, url):
    rules = [{"path": r"^/files/deep/b\.pdf$", "requires": "reports"}]
    assert ask(rules, url, urls=paid) == 403
    assert ask(rules, url, PRO, urls=paid) == 200
    assert ask(rules, "/files/a.pdf", urls=paid) == 200


def test_a_url_that_leads_nowhere_is_not_found_whatever_the_rules(ask):
    assert ask([{"path": "^/", "requires": "reports"}], "/nowhere/") == 404


async def test_rules_hold_in_the_async_chain():
    with override_settings(
        ENTITLEMENT_GATE={**SETTINGS, "RULES": [{"path": "^/reports/", "requires": "reports"}]}, ROOT_URLCONF=urlconf
    ):
        for url in ("/reports/", "/reports/async/"):
            refused = await AsyncClient().get(url, headers={"X-Customer": FREE})
            allowed = await AsyncClient().get(url, headers={"X-Customer": PRO})
            assert (refused.status_code, allowed.status_code) == (403, 200)
        assert (await AsyncClient().get("/apple/", headers={"X-Customer": FREE})).status_code == 200


async def test_without_rules_the_async_chain_asks_nothing():
    with override_settings(ENTITLEMENT_GATE=SETTINGS, ROOT_URLCONF=urlconf):
        assert (await AsyncClient().get("/reports/async/")).status_code == 200


# Paths


class Anything(StringConverter):
    regex = r"[\s\S]+"


if "anything" not in get_converters():
    register_converter(Anything, "anything")

gated = ModuleType("gated")
gated.urlpatterns = [
    *(path(f"reports/{name}/<{name}:value>/export/", page) for name in (*sorted(get_converters()), "anything")),
    path("<path:value>", page),
]
A_VALUE = st.sampled_from(sorted(get_converters())).flatmap(
    lambda name: st.tuples(st.just(name), st.from_regex(get_converters()[name].regex, fullmatch=True))
)


@seed(12)
@hypothesis_settings(max_examples=150, deadline=None, database=None)
@given(A_VALUE)
@example(("str", "5\n"))
@example(("str", "\n"))
@example(("str", "\x00"))
@example(("str", "\r\x85\u2028\u2029\x0b\x0c"))
@example(("path", "a/../../b"))
@example(("anything", "a\n/\nb"))
@example(("str", "e\u0301"))
@example(("str", "%2F%0A"))
def test_whatever_a_url_leads_to_a_gated_view_by_is_refused(named):
    name, value = named
    url = f"/reports/{name}/{value}/export/"
    rules = [{"path": rf"^/reports/{name}/.+/export/$", "requires": "reports"}]
    with override_settings(ENTITLEMENT_GATE={**SETTINGS, "RULES": rules}, ROOT_URLCONF=gated):
        for script in ("", "/script"):
            answer = Client(SCRIPT_NAME=script).get(quote(url), headers={"X-Customer": FREE})
            assert answer.status_code == 403


class ByFlag:
    regex = "(?i:premium|reports)"

    def to_python(self, value):
        return value

    def to_url(self, value):
        return value


class Lowering(ByFlag):
    """A word in whatever spelling, which leads to the same."""

    regex = "[A-Za-z]+"

    def to_python(self, value):
        return value.lower()


for name, converter in (("by_flag", ByFlag), ("lowering", Lowering)):
    if name not in get_converters():
        register_converter(converter, name)

loose = ModuleType("loose")
loose.urlpatterns = [
    path("flag/<by_flag:section>/", page),
    path("deep/<lowering:section>/", include([path("in/", page)])),
    path("plain-converters/<str:a>/<slug:b>/<int:c>/", page),
    re_path(r"^mixed/(?P<a>(?s-i:a))/(?P<b>(?ai:b))/$", page),
    re_path(r"^set/[Pp]remium/$", page),
    re_path(r"^range/(?P<word>[a-zA-Z-]+)/$", page),
    re_path(r"^off/(?-i:[A-Z]+)/(?:<none:here>)?$", page),
    re_path(r"^(?i:reports)/", page),
    re_path(r"(?i)^plain/", include([path("in/", page)])),
    path("Strict/", page),
]


numbered = ModuleType("numbered")
numbered.urlpatterns = [
    path("archive/<int:year>/<str:month>/", page),
    re_path(r"^page-(?P<number>\d+)\.html$", page),
    path("fixed/007/", page),
    path("word/<slug:word>/", page),
    path("item/<str:key>/", page),
    re_path(r"^unicode/(?P<key>\d+)/$", page),
]


@pytest.mark.parametrize(
    ("pattern", "url", "status"),
    [
        ("^/archive/2024/", "/archive/02024/5/", 403),
        ("^/archive/2024/", "/archive/00002024/x/", 403),
        ("^/archive/2024/5/$", "/archive/2024/05/", 403),
        ("^/archive/0/", "/archive/00/5/", 403),
        ("^/archive/02024/", "/archive/02024/5/", 403),
        ("^/archive/2024/", "/archive/12024/5/", 200),
        ("^/archive/2024/", "/archive/20240/5/", 200),
        (r"^/page-7\.html$", "/page-007.html", 403),
        (r"^/page-7\.html$", "/page-070.html", 200),
        ("^/fixed/7/", "/fixed/007/", 200),
        ("^/word/a7/", "/word/a07/", 200),
        ("^/unicode/7/", "/unicode/%D9%A7/", 403),
        ("^/unicode/7/", "/unicode/%EF%BC%90%EF%BC%97/", 403),
        ("^/unicode/7/", "/unicode/%D9%A8/", 200),
        ("^/item/7/", "/item/%D9%A7/", 403),
        ("^/item/7/", "/item/+7/", 403),
        ("^/item/7/", "/item/%207%0A/", 403),
        ("^/item/70/", "/item/7_0/", 403),
        ("^/item/-7/", "/item/-07/", 403),
        ("^/item/7/", "/item/7a/", 200),
        ("^/item/7/", "/item/-7/", 200),
        (f"^/item/{PRO}/", f"/item/{PRO.replace('-', '')}/", 403),
        ("^/item/a0000000-0000-4000-8000-00000000000a/", "/item/%7BA0000000-0000-4000-8000-00000000000A%7D/", 403),
        (f"^/item/{PRO}/", f"/item/{FREE}/", 200),
    ],
)
def test_an_id_leads_to_the_same_however_it_is_written(ask, pattern, url, status):
    assert ask([{"path": pattern, "requires": "reports"}], url, urls=numbered) == status


@pytest.mark.parametrize(
    ("pattern", "url", "status"),
    [
        ("^/reports/", "/REPORTS/", 403),
        ("^/Reports/", "/reports/", 403),
        ("^/plain/in/$", "/PLAIN/in/", 403),
        ("^/(?!reports/)", "/Reports/", 403),
        ("^/strict/", "/Strict/", 200),
        ("^/Strict/", "/Strict/", 403),
        ("^/reports/$", "/REPORTS/more", 200),
        ("^/flag/premium/", "/flag/PREMIUM/", 403),
        ("^/flag/PREMIUM/", "/flag/premium/", 403),
        ("^/flag/premium/", "/flag/Reports/", 200),
        ("^/deep/premium/", "/deep/PreMium/in/", 403),
        ("^/plain-converters/a/", "/plain-converters/A/b/1/", 200),
        ("^/plain-converters/A/", "/plain-converters/A/b/1/", 403),
        ("^/mixed/a/b/", "/mixed/a/B/", 403),
        ("^/off/reports/", "/off/REPORTS/", 200),
        ("^/set/premium/", "/set/Premium/", 403),
        ("^/set/Premium/", "/set/premium/", 403),
        ("^/range/premium/", "/range/PREMIUM/", 403),
    ],
)
def test_case_counts_where_it_does_in_the_url(ask, pattern, url, status):
    assert ask([{"path": pattern, "requires": "reports"}], url, urls=loose) == status


async def test_a_line_feed_in_a_path_passes_no_rule_in_the_async_chain_either():
    rules = [{"path": "^/reports/.+/export/$", "requires": "reports"}]
    with override_settings(ENTITLEMENT_GATE={**SETTINGS, "RULES": rules}, ROOT_URLCONF=gated):
        answer = await AsyncClient().get("/reports/str/5%0A/export/", headers={"X-Customer": FREE})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("pattern", "matched", "passed"),
    [
        (r"^/a/.$", ["/a/\n", "/a/b", "/a/\x00"], ["/a/b\n", "/a/"]),
        (r"^/(?!public$)", ["/public\n", "/x"], ["/public"]),
        (r"^/(?!.*/public/)", ["/x/"], ["/x\n/public/"]),
        (r"^/a\$$", ["/a$"], ["/a", "/a$\n", "/a\\"]),
        (r"^/[$]$", ["/$"], ["/$\n", "/Z", "/\\"]),
        (r"^/[]$]$", ["/$", "/]"], ["/$\n"]),
        (r"^/[^]$]$", ["/x", "/\n"], ["/$", "/x\n", "/]"]),
        (r"^/[\]$]$", ["/$", "/]"], ["/$\n"]),
        (r"(?m)^/a$", ["/a"], ["/a\nb"]),
        (r"(?x) ^/a $ # the $ alone", ["/a"], ["/a\n"]),
        (r"^/(?:a$|b)", ["/a", "/bb"], ["/a\n", "/ab"]),
        (r"^/a\nb$", ["/a\nb"], ["/a\nb\n"]),
        (r"(?i)^/reports/$", ["/Reports/"], ["/reports/\n"]),
        (r"^/reports/$", ["/reports/"], ["/Reports/"]),
        (r"^/reports/", ["/reports/", "/x/../reports/", "//reports/", "/./reports/", "/reports/.."], ["/reports"]),
        (r"^/caf\u00e9/$", ["/caf\u00e9/"], ["/cafe\u0301/"]),
    ],
)
def test_a_pattern_is_searched_with_a_dot_for_every_character_and_a_dollar_for_the_end_alone(pattern, matched, passed):
    (rule,) = read_rules([{"path": pattern, "requires": "x"}])
    request = RequestFactory().get("/")
    assert rule.name == pattern
    for paths, is_matched in ((matched, True), (passed, False)):
        for request.path_info in paths:
            assert rule.matches(request, None) is is_matched, request.path_info


SIGNS = st.text(alphabet="ab/$.^[]()|*?\\-", max_size=8)


@seed(12)
@hypothesis_settings(max_examples=300, deadline=None, database=None)
@given(SIGNS, st.text(alphabet="ab/$.^]Z\\", max_size=5))
def test_a_pattern_means_what_it_did_wherever_no_line_feed_is(pattern, path_info):
    try:
        plain = re.compile(f"x{pattern}")
    except (re.error, FutureWarning):  # no pattern, or one such as "[||" that is about to mean something else
        return
    (rule,) = read_rules([{"path": f"x{pattern}", "requires": "x"}])
    assert bool(rule.pattern.search(f"x{path_info}")) is bool(plain.search(f"x{path_info}"))


# Names


shop = ([path("export/", page, name="export"), path("unnamed/", page), path("in/", include((inner, "inner")))], "shop")
named = ModuleType("named")
named.urlpatterns = [
    path("plain/", include(shop)),
    path("eu/", include(shop, namespace="eu")),
    path("site/", include(([path("shop/", include(shop, namespace="us"))], "site"), namespace="sites")),
    path("other/", include(([path("export/", page, name="export")], "other"), namespace="shop-of-others")),
    path("bare/", ([path("export/", page, name="export")], None, "bare")),
    path("nobody/", ([path("export/", page, name="export")], "nobody", None)),
]
EXPORTS = ["/plain/export/", "/eu/export/", "/site/shop/export/", "/other/export/", "/bare/export/", "/nobody/export/"]


@pytest.mark.parametrize(
    ("rule", "gated_urls"),
    [
        ({"view": "shop:export"}, ["/plain/export/", "/eu/export/"]),
        ({"view": "eu:export"}, ["/eu/export/"]),
        ({"view": "export"}, ["/nobody/export/"]),
        ({"view": "nobody:export"}, ["/nobody/export/"]),
        ({"view": "bare:export"}, ["/bare/export/"]),
        ({"namespace": "shop"}, ["/plain/export/", "/eu/export/", "/site/shop/export/"]),
        ({"namespace": "us"}, ["/site/shop/export/"]),
        ({"namespace": "shop:inner"}, []),
        ({"namespace": "eu"}, ["/eu/export/"]),
        ({"namespace": "site"}, ["/site/shop/export/"]),
        ({"namespace": "sites:us"}, ["/site/shop/export/"]),
        ({"namespace": "site:shop"}, ["/site/shop/export/"]),
        ({"view": "sites:shop:export"}, ["/site/shop/export/"]),
        ({"view": "site:us:export"}, ["/site/shop/export/"]),
        ({"view": "site:export"}, []),
        ({"namespace": "sho"}, []),
    ],
)
def test_a_rule_by_name_is_about_the_instance_and_the_application(ask, rule, gated_urls):
    refused = [url for url in EXPORTS if ask([{**rule, "requires": "reports"}], url, urls=named) == 403]
    assert refused == gated_urls


def test_a_rule_by_name_reaches_views_without_a_name_and_namespaces_within(ask):
    unnamed = {"view": f"shop:{__name__}.page", "requires": "reports"}
    assert [ask([unnamed], f"/{instance}/unnamed/", urls=named) for instance in ("plain", "eu")] == [403, 403]
    deep = {"view": "shop:inner:deep", "requires": "reports"}
    assert [ask([deep], f"/{instance}/in/deep/", urls=named) for instance in ("plain", "eu")] == [403, 403]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("reports", "a list of dicts"),
        ([{"path": "^/", "requires": "x", "when": 1}], "entry 0 is a dict of"),
        (["^/"], "entry 0 is a dict of"),
        ([{"requires": "x"}], 'one of "path", "view", "namespace"'),
        ([{"path": "^/", "view": "x", "requires": "x"}], 'one of "path", "view", "namespace"'),
        ([{"path": "^/"}], '"requires"'),
        ([{"path": "(", "requires": "x"}], "entry 0: "),
        ([{"path": "a{99999999999}", "requires": "x"}], "entry 0: the repetition number is too large"),
        (iter([{"path": "^/", "requires": "x"}]), "a list of dicts"),
        ([{"view": "", "requires": "x"}], "'view' is text"),
        ([{"view": "v", "requires": "x"}, {"view": "v", "requires": "x", "quantity": 0}], "entry 1: a quantity"),
        ([{"view": "v", "requires": 3}], "entry 0: an entitlement"),
        ([{"view": "v", "requires": "x", "methods": "POST"}], "methods is a list"),
        ([{"view": "v", "requires": "x", "consume": 1}], "entry 0: consume is True or False, not 1"),
        ([{"view": "v", "requires": "x", "key": "a.b"}], 'entry 0: key names what is used up; say "consume": True'),
        ([{"view": "v", "requires": "x", "consume": True, "key": "k"}], "entry 0: key is a function of the request or"),
        ([{"view": "v", "requires": "x", "customer": PRO}], "entry 0: customer is a function of the request or"),
        ([{"view": "v", "requires": "x", "customer": 5}], "entry 0: customer is a function of the request or"),
        ([{"view": "v", "requires": "x", "on_denied": "raise"}], 'entry 0: on_denied: "raise" is for views'),
        ([{"view": "v", "requires": "x", "on_denied": " "}], "entry 0: on_denied is a function, the dotted path of"),
        ([{"view": "v", "requires": "x", "on_denied": 302}], "entry 0: on_denied is a function, the dotted path of"),
        ([{"view": "v", "requires": "x", "on_unavailable": "yes"}], 'entry 0: on_unavailable is "deny" or "allow"'),
    ],
)
def test_a_rule_that_cannot_work_is_refused_early(raw, said):
    with pytest.raises(ValueError, match="rules: ") as refused:
        read_rules(raw)
    assert said in str(refused.value)

"""Django's response to a refused request: the words and statuses of ``refusals``, translated, as a page or as JSON.

``Accept`` chooses between problem details (RFC 9457) and a page; neither names customers, plans or systems. Also here:
the caching headers of a gated view's response, which only its customer's browser may keep.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

from django.conf import settings
from django.conf.urls.i18n import is_language_prefix_patterns_used
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, JsonResponse
from django.http.request import MediaType
from django.shortcuts import resolve_url
from django.template import TemplateDoesNotExist, engines
from django.template.loader import get_template
from django.urls import NoReverseMatch, reverse
from django.utils.cache import patch_cache_control, patch_vary_headers
from django.utils.http import escape_leading_slashes
from django.utils.translation import get_language, gettext_lazy

from entitlement_gate import refusals
from entitlement_gate.conf import get_settings
from entitlement_gate.domain.decisions import Decision, Reason
from entitlement_gate.resilience.failure_log import traceback_to_log
from entitlement_gate.resolvers import mark_private, restore_page_cache
from entitlement_gate.url_rules import is_open
from entitlement_gate.waiting import Invocation

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.utils.functional import _StrPromise

__all__ = [
    "address_of",
    "denied",
    "detail_of",
    "is_login_url",
    "is_page",
    "is_way_in",
    "keep_private",
    "leads_within",
    "prefers_json",
    "problem_details",
    "problem_of",
    "redirection",
    "status_of",
    "title_of",
    "upgrade_address",
    "upgrade_url_of",
    "with_refusal_headers",
]


def title_of(decision: Decision) -> _StrPromise:
    """Return a headline in the active language."""
    return gettext_lazy(refusals.title_of(decision))


def detail_of(decision: Decision) -> _StrPromise:
    """Return a sentence in the active language."""
    return gettext_lazy(refusals.detail_of(decision))


_logger = logging.getLogger("entitlement_gate")
_URL_NAME = re.compile(r"[^/:?#]+|(?!mailto:)[\w.-]+(?::[\w.-]+)+")
_TEMPLATE = "entitlement_gate/denied.html"


def denied(request: HttpRequest, decision: Decision) -> HttpResponseBase:
    """Return the answer to a request that ``decision`` refuses: the default ``DENIED_HANDLER``."""
    login = _find_login(request) if decision.reason is Reason.NO_CUSTOMER else None
    if login is not None:
        response: HttpResponseBase = _redirect_to_login(request, login)
    elif prefers_json(request):
        response = _answer_problem(request, decision)
    else:
        response = _answer_page(request, decision)
    return with_refusal_headers(response, decision)


def problem_details(request: HttpRequest, decision: Decision) -> HttpResponseBase:
    """Return the answer of an API to a request that ``decision`` refuses, whatever the client prefers."""
    return with_refusal_headers(_answer_problem(request, decision), decision)


def with_refusal_headers(response: HttpResponseBase, decision: Decision) -> HttpResponseBase:
    """Return the response to a refused request with headers against caching, and ``Retry-After`` where that helps."""
    retry_after = refusals.retry_after_of(decision)
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    return _forbid_storing(response)


def redirection(request: HttpRequest, decision: Decision, url: str) -> HttpResponseBase:
    """Return the answer that leads a refused request to ``url``.

    htmx would put the page that a redirect leads to into the fragment it asked for: it is told to go there.
    """
    response: HttpResponse = HttpResponseRedirect(url)
    if "HX-Request" in request.headers:
        response = HttpResponse(status=status_of(decision), headers={"HX-Redirect": response.url})  # type: ignore[attr-defined]  # a redirect's
    return _forbid_storing(response)


def is_way_in(request: HttpRequest) -> bool:
    """Whether this is the page that ``ANONYMOUS = "login"`` leads to: were it gated, it would lead there for ever."""
    login = _login_url() if get_settings().anonymous == "login" else None
    return login is not None and is_page(request, login)


def is_login_url(url: str) -> bool:
    """Whether this is the address of the project's login page; a page on another host is no page of the project's."""
    login, own = urlsplit(_login_url() or "//nowhere"), urlsplit(url)
    return (own.netloc, own.path) == (login.netloc, login.path)


def leads_within(request: HttpRequest, url: str) -> bool:
    """Whether a URL leads to a page of this project, or to its login page wherever that is."""
    return _is_here(request, urlsplit(url)) or is_login_url(url)


def is_page(request: HttpRequest, url: str) -> bool:
    """Whether a URL leads to the requested page, perhaps through a redirect to a language or to a trailing slash."""
    leads_to = urlsplit(url)
    path = unquote(leads_to.path)
    paths = (path, f"{path}/") if settings.APPEND_SLASH else (path,)
    return _is_here(request, leads_to) and not {request.path, _path_without_language(request)}.isdisjoint(paths)


def address_of(url: Any, setting: str) -> str | None:
    """Return the address of a URL or of the name of one; None, and a line in the log, where nothing has the name."""
    try:
        return str(resolve_url(url))
    except NoReverseMatch as error:
        _logger.error("%s: %s", setting, error)  # noqa: TRY400 - a traceback adds nothing
        return None


def _login_url() -> str | None:
    return address_of(settings.LOGIN_URL, "LOGIN_URL") if settings.LOGIN_URL else None


def _is_here(request: HttpRequest, url: SplitResult) -> bool:
    try:
        return not url.netloc or url.netloc == request.get_host()
    except DisallowedHost:
        return False


def _path_without_language(request: HttpRequest) -> str:
    """Return the path as ``LocaleMiddleware`` found it, before it led on to the same page in a language."""
    is_prefixed, _ = is_language_prefix_patterns_used(getattr(request, "urlconf", None) or settings.ROOT_URLCONF)
    prefix = f"/{get_language()}/"
    if not (is_prefixed and request.path_info.startswith(prefix)):
        return request.path
    return request.path.removesuffix(request.path_info) + request.path_info.removeprefix(prefix[:-1])


def status_of(decision: Decision) -> int:
    """Return the HTTP status of a refusal."""
    return refusals.status_of(decision, get_settings().status_codes)


def prefers_json(request: HttpRequest) -> bool:
    """Return whether the client would rather have JSON: by ``Accept``, else by the body it sent."""
    try:
        json = min(
            _rate_types(request, "application/json"),
            _rate_types(request, "application/problem+json"),
            _rate_suffix(request),
        )
        html = _rate_types(request, "text/html")
    except ValueError:  # Django reads no header of absurd length
        json = html = 0
    if json == html:
        return (request.content_type or "").endswith(("/json", "+json"))
    return json < html


def upgrade_url_of(request: HttpRequest, decision: Decision) -> str | None:
    """Return where more can be had, or None: ``UPGRADE_URL`` is a URL, the name of one, or a callable, also async.

    A URL that a browser would run instead of visit (``javascript:``), and a callable that raises, is None and logged.
    """
    setting = get_settings().upgrade_url
    try:
        return upgrade_address(Invocation(setting, request, decision).wait() if callable(setting) else setting)
    except NoReverseMatch:
        _logger.error("UPGRADE_URL: there is no URL named %r", _format_url(setting))  # noqa: TRY400 - adds nothing
    except ValueError:
        _logger.error("UPGRADE_URL: %r is no address to visit", _format_url(setting))  # noqa: TRY400 - as above
    except Exception as error:  # a project's code: a refusal without an address is still a refusal
        name, kind = getattr(setting, "__qualname__", type(setting)), type(error).__name__
        _logger.exception("UPGRADE_URL: %s raised %s", name, kind, exc_info=traceback_to_log(error))
    return None


def upgrade_address(url: Any) -> str | None:
    """Return the address that a URL is, or is the name of; None where it is empty.

    Raises:
        NoReverseMatch: nothing has the name.
        ValueError: a browser would run it instead of visiting it.
    """
    url = str(url or "")  # a lazy one is looked up here
    if _URL_NAME.fullmatch(url):
        return reverse(url)
    return refusals.visitable(url) or None


def _format_url(setting: object) -> str:
    """Return the setting for the log; not what a callable returned, which may name the customer."""
    if callable(setting):
        return f"what {getattr(setting, '__qualname__', type(setting))} returned"
    return setting if isinstance(setting, str) else "what is lazy"


def _forbid_storing(response: HttpResponseBase) -> HttpResponseBase:
    response.headers["Cache-Control"] = refusals.CACHE_CONTROL
    patch_vary_headers(response, refusals.VARY)
    return response


def _rate_types(request: HttpRequest, media_type: str) -> int:
    """Return the rank of a media type in ``Accept``, 0 for the one that is preferred.

    What is refused by name (``q=0``), which Django leaves out of its list, is not accepted by ``*/*`` either.
    """
    types = request.accepted_types
    refused = (MediaType(part) for part in request.headers.get("Accept", "").split(",") if "q=0" in part)
    if any(_strip_parameters(part) == media_type and part.quality == 0 for part in refused):
        return len(types)
    by_pattern = request.accepted_type(media_type)
    by_name = (part for part in types if _strip_parameters(part) == media_type)  # "…; charset=utf-8" is as good
    match = next(by_name, by_pattern)
    return len(types) if match is None else types.index(match)


def _rate_suffix(request: HttpRequest) -> int:
    """Return the rank of the preferred type that is JSON by its suffix, as those of JSON:API and HAL are."""
    types = request.accepted_types
    ranks = (rank for rank, part in enumerate(types) if part.sub_type.endswith("+json"))
    return next(ranks, len(types))


def _strip_parameters(part: MediaType) -> str:
    return f"{part.main_type}/{part.sub_type}"


def _redirect_to_login(request: HttpRequest, login: str) -> HttpResponseBase:
    from django.contrib.auth.views import redirect_to_login  # noqa: PLC0415 - a project may do without that app

    page = urlsplit(login)
    is_near = _is_here(request, page) and page.scheme in ("", request.scheme)
    way_back = escape_leading_slashes(request.get_full_path()) if is_near else request.build_absolute_uri()
    return redirect_to_login(way_back, login)


def _find_login(request: HttpRequest) -> str | None:
    """Return the login page to send a person to, or None.

    Never a script, never into a fragment of a page, never from a page that is open to all, and never who is logged in:
    the page would send them back.
    """
    if get_settings().anonymous != "login" or "HX-Request" in request.headers or prefers_json(request):
        return None
    match = request.resolver_match
    if is_way_in(request) or (match is not None and is_open(match.func)):
        return None
    return None if getattr(getattr(request, "user", None), "is_authenticated", False) else _login_url()


def problem_of(request: HttpRequest, decision: Decision) -> dict[str, Any]:
    """Return the members of problem details, in the active language."""
    return refusals.problem_of(
        decision,
        status=status_of(decision),
        title=title_of(decision),
        detail=detail_of(decision),
        upgrade_url=upgrade_url_of(request, decision),
    )


def _answer_problem(request: HttpRequest, decision: Decision) -> HttpResponse:
    problem = problem_of(request, decision)
    return JsonResponse(problem, status=problem["status"], content_type=refusals.PROBLEM)


def _answer_page(request: HttpRequest, decision: Decision) -> HttpResponse:
    status = status_of(decision)
    context = {
        "decision": decision,
        "title": title_of(decision),
        "detail": detail_of(decision),
        "upgrade_url": upgrade_url_of(request, decision),
    }
    try:
        template = get_template(_TEMPLATE) if engines.all() else None
    except TemplateDoesNotExist:
        template = None
    if template is None:
        text = f"{context['title']}\n\n{context['detail']}\n"
        return HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")
    return HttpResponse(template.render(context, request), status=status)


_FOR_ALL = frozenset({"public", "s-maxage"})
_WHOSE = _FOR_ALL | {"private", "no-store"}  # directives that say who may keep a response
_CREDENTIALS = ("Cookie", "Authorization")  # what customers are found by; another header only the resolver knows
_VARY = ", ".join(_CREDENTIALS)
_CACHE_HEADERS = frozenset({"cache-control", "vary"})


def keep_private(request: HttpRequest, answer: Any) -> Any:
    """Return the response of a gated view with headers that keep it out of shared caches.

    What the view itself says about caching stays. What is no response yet, because a framework makes one of it, is left
    to the operation of Django Ninja, or the middleware.
    """
    if not isinstance(answer, HttpResponseBase):
        mark_private(request)
    elif get_settings().private_responses:
        headers = answer.headers
        if _CACHE_HEADERS.isdisjoint([name.lower() for name in headers]):  # as a rule; Django's helpers take 3 us
            headers["Cache-Control"], headers["Vary"] = "private", _VARY
        else:
            _patch_private(answer)
        restore_page_cache(request)
    return answer


def _patch_private(answer: HttpResponseBase) -> None:
    header = answer.headers.get("Cache-Control", "")
    directives = {directive.partition("=")[0].strip().lower() for directive in header.split(",")}
    if directives.isdisjoint(_WHOSE):
        patch_cache_control(answer, private=True)
    if directives.isdisjoint(_FOR_ALL):
        patch_vary_headers(answer, _CREDENTIALS)

"""The package's own views: a customer's entitlements as JSON, and the receiver of billing's webhooks.

``me`` shows a caller its own entitlements only; the only effect of a verified webhook is another fetch.
"""

from __future__ import annotations

import hashlib
import logging
import time
from typing import TYPE_CHECKING

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import ImproperlyConfigured, PermissionDenied, RequestDataTooBig
from django.http import HttpResponse, JsonResponse
from django.http.request import RawPostDataException
from django.utils.cache import get_conditional_response, patch_vary_headers
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from entitlement_gate.api import default_gate
from entitlement_gate.conf import get_settings
from entitlement_gate.domain.errors import EntitlementUnavailable
from entitlement_gate.guard import refusal
from entitlement_gate.request_entitlements import entitlements_of
from entitlement_gate.resilience.effects import run_sync
from entitlement_gate.resilience.failure_log import FailureLog
from entitlement_gate.resilience.token_bucket import TokenBucket
from entitlement_gate.url_rules import entitlement_exempt
from entitlement_gate.waiting import Invocation
from entitlement_gate.webhooks import KEYS, REMEMBERED_BY, Malformed, Replayed, VerifierUnavailable, customers_named

if TYPE_CHECKING:
    from collections.abc import Collection

    from django.http import HttpRequest, HttpResponseBase

__all__ = ["me", "webhook"]

_logger = logging.getLogger("entitlement_gate")
_invalidations = TokenBucket(200, rate=20)  # at once, and a second, in this process: each may cost a fetch
_KEYS = ", ".join(KEYS)
_log = FailureLog(time)


@entitlement_exempt
@require_safe
def me(request: HttpRequest) -> HttpResponseBase:
    """Return the caller's own entitlements as JSON, private, with an ETag."""
    entitlements = entitlements_of(request).all()
    if entitlements.customer_id is None:
        return run_sync(refusal(request, entitlements.check("me")))
    try:
        body = JsonResponse(entitlements.as_dict())
    except EntitlementUnavailable as error:
        return run_sync(refusal(request, error.decision))
    etag = f'"{hashlib.sha256(body.content).hexdigest()[:32]}"'
    response = get_conditional_response(request, etag, response=body) or body
    response.headers["ETag"] = etag
    response.headers["Cache-Control"] = "private, no-cache"
    patch_vary_headers(response, ("Cookie", "Authorization"))
    return response


@entitlement_exempt
@csrf_exempt
@login_not_required
def webhook(request: HttpRequest) -> HttpResponse:
    """Invalidate the customers that a verified call names, and nothing else.

    404 with no ``WEBHOOK_VERIFIER``, 403 when it refuses, 400 for what cannot be read, 429 beyond what a billing
    system has reason to send, 202 where nobody is named, 204 when done, 503 while the verifier cannot tell. A call that
    comes again is answered as it was.
    """
    if get_settings().webhook_verifier is None:
        return HttpResponse(status=404)
    return _receive(request)


@require_POST
def _receive(request: HttpRequest) -> HttpResponse:
    try:
        body = request.body
    except (OSError, RequestDataTooBig, RawPostDataException):  # gone, endless, or a form that somebody read before
        return HttpResponse(status=400)
    counts = default_gate().webhooks
    try:
        is_new = _verify(request)
    except VerifierUnavailable as error:
        _logger.error("a webhook cannot be verified now: %s", error)  # noqa: TRY400 - a traceback may quote what was signed
        return HttpResponse(status=503, headers={"Retry-After": "10"})
    except PermissionDenied:
        counts["refused"] += 1
        return HttpResponse(status=403)
    counts["received" if is_new else "replayed"] += 1
    try:
        customers = customers_named(body)
    except Malformed as error:
        return HttpResponse(str(error), status=400, content_type="text/plain")
    if not customers:
        if is_new:
            counts["named_nobody"] += 1
            _log.note_warning("webhook", "a verified webhook names no customer: no UUID stands under any of %s", _KEYS)
        # A success, since the sender cannot do better, that says that nothing came of it.
        detail = f"no customer is named: the keys that are read are {_KEYS}, and their values UUIDs"
        return JsonResponse({"customers": 0, "detail": detail}, status=202)
    return _invalidate(request, customers) if is_new else HttpResponse(status=204)


def _invalidate(request: HttpRequest, customers: Collection[str]) -> HttpResponse:
    if not _invalidations.spend(len(customers)):
        _forget_call(request)
        return HttpResponse(status=429, headers={"Retry-After": "10"})
    try:
        for customer_id in customers:
            default_gate().invalidate(customer_id)
    except BaseException:  # whatever it is, the sender tries again
        _forget_call(request)
        raise
    return HttpResponse(status=204)


def _verify(request: HttpRequest) -> bool:
    """Return whether a call that the verifier accepts is new.

    Raises:
        PermissionDenied: it refuses: by raising whatever it likes, or with ``False``.
        VerifierUnavailable: it cannot tell now.
    """
    try:
        verify = get_settings().load("webhook_verifier")
    except ImproperlyConfigured as error:
        _logger.error("%s", error)  # noqa: TRY400 - a traceback adds nothing
        raise PermissionDenied from None
    try:
        is_accepted = Invocation(verify, request).wait() is not False
    except Replayed:
        return False
    except (PermissionDenied, VerifierUnavailable):
        raise
    except Exception as error:  # noqa: BLE001 - whatever it likes; its text may quote what was signed
        _logger.warning("WEBHOOK_VERIFIER refuses a call with %s", type(error).__name__)
        is_accepted = False
    if not is_accepted:
        raise PermissionDenied
    return True


def _forget_call(request: HttpRequest) -> None:
    """Have the verifier, where it remembers calls, accept this one again."""
    forget = getattr(get_settings().load("webhook_verifier"), "forget", None)
    forget = forget or getattr(request.META.get(REMEMBERED_BY), "forget", None)
    if forget is not None:
        Invocation(forget, request).wait()

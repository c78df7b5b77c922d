"""A page for support staff: look a customer up, see what it holds and why, invalidate its cached snapshot.

It needs no model, so no migration, no table and no content type: it is a view behind an ``AdminSite``'s own door.
Either list it above the admin's URLs, or derive the project's site from ``EntitlementsAdminSite``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import HttpResponseRedirect
from django.urls import path, reverse
from django.utils.decorators import classonlymethod
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _
from django.views.generic import TemplateView

from entitlement_gate.api import default_gate
from entitlement_gate.operators.customer_report import (
    ask,
    format_window,
    get_holdings,
    make_balance_cell,
    parse_customer,
)
from entitlement_gate.operators.explanation import describe_reason
from entitlement_gate.operators.terminal import OperatingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponseBase

    from entitlement_gate.engine.entitlements import Entitlement

__all__ = ["PERMISSION", "EntitlementsAdminSite", "EntitlementsAdminView", "LookUpForm"]

PERMISSION = "entitlement_gate.view_entitlements"
"""What a member of staff needs; superusers have every permission."""

_logger = logging.getLogger("entitlement_gate")


class LookUpForm(forms.Form):
    """Whom and what to look up."""

    customer = forms.CharField(label=_("Customer id"), max_length=100, widget=forms.TextInput({"size": 40}))
    name = forms.CharField(label=_("Entitlement"), max_length=500, required=False, help_text=_("to explain"))
    quantity = forms.CharField(label=_("Quantity"), max_length=100, required=False)

    def clean_customer(self) -> str:
        """Return the canonical id."""
        try:
            return parse_customer(self.cleaned_data["customer"])
        except OperatingError as error:
            raise forms.ValidationError(str(error)) from None


class EntitlementsAdminView(TemplateView):
    """The page. GET looks up; POST invalidates the customer, and redirects to the page.

    Attributes:
        admin_site: whose door it is behind, and whose look it has.
        permission_required: what a member of staff needs besides; any permission of the project's own will do.
    """

    template_name = "entitlement_gate/admin/entitlements.html"
    admin_site: AdminSite = admin.site
    permission_required = PERMISSION

    @classonlymethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:  # type: ignore[override]  # noqa: N805 - a class method, by another name
        """Return the view behind the site's door: who is no staff is sent to its log-in; never cached, CSRF checked."""
        site: AdminSite = initkwargs.get("admin_site", cls.admin_site)
        view: Callable[..., HttpResponseBase] = site.admin_view(super().as_view(**initkwargs))
        return view

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Refuse staff without the permission."""
        if not request.user.has_perm(self.permission_required):
            raise PermissionDenied
        request.current_app = self.admin_site.name  # what {% url "admin:…" %} reads
        return super().dispatch(request, *args, **kwargs)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Return what the template shows; an answer only where the form can be read."""
        form = LookUpForm(self.request.GET if "customer" in self.request.GET else None)
        context = {**self.admin_site.each_context(self.request), "title": _("Entitlements"), "form": form}
        if form.is_valid():
            try:
                context |= _look_up(**form.cleaned_data)
            except OperatingError as error:
                form.add_error("quantity", str(error))
        return super().get_context_data(**context, **kwargs)

    def post(self, request: HttpRequest, *_args: Any, **_kwargs: Any) -> HttpResponseBase:
        """Invalidate the customer's cached snapshot."""
        form = LookUpForm(request.POST)
        if not form.is_valid():
            messages.error(request, _("That is no customer id."))
            return HttpResponseRedirect(request.path)
        customer = form.cleaned_data["customer"]
        default_gate().invalidate(customer)
        _logger.info("invalidated in the admin", extra={"user_id": request.user.pk})
        messages.success(request, _("The next check of this customer fetches anew."))
        return HttpResponseRedirect(f"{request.path}?{urlencode({'customer': customer})}")


class EntitlementsAdminSite(AdminSite):
    """An admin site that has the page, as ``admin:entitlements``, and lists it for those who may see it.

    Attributes:
        entitlements_permission: what a member of staff needs to see it.
    """

    entitlements_permission = PERMISSION

    def get_urls(self) -> list[Any]:
        """Return the site's URLs, the page first."""
        permission = self.entitlements_permission
        page = EntitlementsAdminView.as_view(admin_site=self, permission_required=permission)
        return [path("entitlements/", page, name="entitlements"), *super().get_urls()]

    def get_app_list(self, request: Any, app_label: str | None = None) -> list[Any]:
        """Return the apps, and the page beneath them."""
        apps: list[Any] = super().get_app_list(request, app_label)
        if app_label not in (None, "entitlement_gate") or not request.user.has_perm(self.entitlements_permission):
            return apps
        return [*apps, _make_app(reverse("admin:entitlements", current_app=self.name))]


def _make_app(url: str) -> dict[str, Any]:
    """Return what the site's templates take for an app with one read-only model."""
    page = {
        "name": _("Entitlements"),
        "object_name": "Entitlements",
        "perms": {"add": False, "change": False, "delete": False, "view": True},
        "admin_url": url,
        "add_url": None,
        "view_only": True,
        "model": None,
    }
    return {
        "name": _("Entitlement gate"),
        "app_label": "entitlement_gate",
        "app_url": url,
        "has_module_perms": True,
        "models": [page],
    }


def _look_up(customer: str, name: str, quantity: str) -> dict[str, Any]:
    gate = default_gate()
    holdings = get_holdings(gate, customer)
    context: dict[str, Any] = {
        "holding": holdings,
        "rows": [_make_row(customer, entitlement) for entitlement in holdings.entitlements],
        "problem": None if holdings.is_found else describe_reason(holdings.basis.reason),
    }
    if name and holdings.is_found:
        answer = ask(gate, customer, name, quantity or None)
        context |= {"asked": answer, "meaning": describe_reason(answer.decision.reason)}
    return context


def _make_row(customer: str, entitlement: Entitlement) -> dict[str, Any]:
    cell = make_balance_cell(entitlement.decision)
    return {
        "entitlement": entitlement,
        "left": cell.text,
        "share": None if cell.bar is None else round(cell.bar.share * 100),
        "window": format_window(entitlement.decision),
        "query": urlencode({"customer": customer, "name": entitlement.name}),
    }

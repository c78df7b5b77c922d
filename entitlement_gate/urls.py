"""``path("entitlements/", include("entitlement_gate.urls"))``: ``me/`` and ``webhook/``."""

from __future__ import annotations

from django.urls import path

from entitlement_gate import views

__all__ = ["app_name", "urlpatterns"]

app_name = "entitlement_gate"
urlpatterns = [
    path("me/", views.me, name="me"),
    path("webhook/", views.webhook, name="webhook"),
]

"""URLs for the checks: the package's own, included as a project would."""

from django.urls import include, path

urlpatterns = [path("entitlements/", include("entitlement_gate.urls"))]

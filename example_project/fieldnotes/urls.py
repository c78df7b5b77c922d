from django.urls import path
from django.views.generic import TemplateView

from fieldnotes import api, views

urlpatterns = [
    path("", views.home, name="home"),
    path("dashboard/", views.Dashboard.as_view(), name="dashboard"),
    path("reports/", views.reports, name="reports"),
    path("reports/<int:number>/translate/", views.translate, name="translate"),
    path("export/", views.export, name="export"),
    path("summary/", views.summary, name="summary"),
    path("ask/", views.Ask.as_view(), name="ask"),
    path("team/", views.team, name="team"),
    # Gated by `RULES` in the settings, as a view that is not yours would be.
    path("sso/", TemplateView.as_view(template_name="fieldnotes/sso.html"), name="sso"),
    path("api/report/", views.api_report, name="api-report"),
    path("api/search/", api.Search.as_view(), name="api-search"),
    path("plans/", views.plans, name="plans"),
    path("sign-in/", views.sign_in, name="sign-in"),
]

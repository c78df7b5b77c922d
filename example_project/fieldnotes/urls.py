from django.urls import path

from fieldnotes import views

urlpatterns = [
    path("", views.home, name="home"),
    path("reports/", views.reports, name="reports"),
    path("export/", views.export, name="export"),
    path("summary/", views.summary, name="summary"),
    path("ask/", views.Ask.as_view(), name="ask"),
    path("team/", views.team, name="team"),
    path("api/report/", views.api_report, name="api-report"),
    path("plans/", views.plans, name="plans"),
    path("sign-in/", views.sign_in, name="sign-in"),
]

"""What everything needs, in one place: views enforce it, jobs use it up, and the home page tells it."""

from decimal import Decimal
from typing import NamedTuple

from entitlement_gate import Requirement

DASHBOARD = Requirement("dashboards")
REPORTS = Requirement("reports")
TRANSLATION = Requirement("ai_credits", 5)
EXPORT = Requirement("api_calls", 100)
SUMMARY_CREDITS = {"short": Decimal("12.5"), "long": Decimal(60)}
SUMMARY = Requirement("ai_credits", SUMMARY_CREDITS["short"])
ANSWER = Requirement("ai_credits", 10)
SEAT = Requirement("seats", 1)
SINGLE_SIGN_ON = Requirement("sso")
SEARCH = Requirement("api_calls", 1)
API_REPORT = REPORTS & SEARCH


class Page(NamedTuple):
    """A page as the home page shows it."""

    url_name: str
    title: str
    needs: str
    gate: str
    requirement: Requirement


PAGES = (
    Page("dashboard", "Dashboard", "the feature “dashboards”", "a mixin on a view class, and template tags", DASHBOARD),
    Page(
        "reports", "Reports", "the feature “reports”", "a decorator; a translation is used up once, by its key", REPORTS
    ),
    Page("export", "Export", "100 of “api_calls”", "an async view; a background job uses them up", EXPORT),
    Page("summary", "Summary", "12.5 of “ai_credits”, 60 for a long one", "a price by the request", SUMMARY),
    Page("ask", "Ask", "10 of “ai_credits” for each answer", "a decorator that uses up", ANSWER),
    Page("team", "Team", "1 of “seats” for each person", "request.entitlements, in code", SEAT),
    Page("sso", "Single sign-on", "the feature “sso”", "a rule in the settings", SINGLE_SIGN_ON),
    Page("api-report", "Report API", "“reports” and 1 of “api_calls”", "requirements joined by &", API_REPORT),
    Page(
        "api-search", "Search API", "1 of “api_calls” for each search", "a permission of Django REST framework", SEARCH
    ),
)

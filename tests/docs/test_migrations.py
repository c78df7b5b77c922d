"""The guides for those who come from another library: before and after, run side by side in a project with both."""

import json
import os
import subprocess
import sys

import pytest

from tests.docs.pages import ROOT

# In a process of its own: what waffle adds to the registry of apps stays for the life of a process.
_WITH_WAFFLE = """
import json, logging, sys, types
import django
from django.conf import settings

CUSTOMERS = {"anna": "20000000-0000-4000-8000-000000000002", "bert": "10000000-0000-4000-8000-000000000001"}
settings.configure(
    SECRET_KEY="only for tests",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "waffle", "entitlement_gate"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    TEMPLATES=[{
        "BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }],
    ENTITLEMENT_GATE={
        "BASE_URL": "sandbox:", "DEADLINE": 30,
        "CUSTOMER_RESOLVER": lambda request: CUSTOMERS.get(request.user.get_username()),
    },
)
django.setup()
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.http import Http404
from django.template import engines
from django.test import RequestFactory
from waffle.models import Flag
from tests.docs.pages import DOCS, blocks_of

call_command("migrate", verbosity=0)
paying = Group.objects.create(name="paying")
users = [User.objects.create_user(name) for name in CUSTOMERS]
users[0].groups.add(paying)
for name in ("reports", "sso"):
    Flag.objects.create(name=name).groups.add(paying)

spaces = {side: types.ModuleType(side) for side in ("before", "after")}
templates = {}
for block in blocks_of(DOCS / "how-to" / "migrate-from-waffle.md"):
    mark, _, side = block.mark.partition(": ")
    if mark == "run with waffle" and block.language == "python":
        exec(compile(block.text, f"{side}:{block.line}", "exec"), vars(spaces[side]))
    elif mark == "run with waffle":
        templates[side] = engines["django"].from_string(block.text)


def answer(view, user):
    request = RequestFactory().get("/")
    request.user = user
    try:
        response = view(request)
    except Http404:
        return 404
    return response.content.decode() if view.__name__ == "team" else response.status_code


def page(template, user):
    request = RequestFactory().get("/")
    request.user = user
    return "Reports" in template.render({}, request)


def answers(view):
    return [answer(view, user) for user in users]


said = {
    side: {
        "reports": answers(space.reports),
        "class": answers(space.SingleSignOn.as_view()),
        "team": answers(space.team),
        "template": [page(templates[side], user) for user in users],
    }
    for side, space in spaces.items()
}
said["in between"] = answers(spaces["after"].reports_in_between)
find = lambda: [
    (user.username, before, after)
    for user, before, after in spaces["after"].differences("reports", users, lambda user: CUSTOMERS[user.username])
]
said["differences"] = [find()]
Flag.objects.get(name="reports").users.add(users[1])
said["differences"].append(find())
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said():
    pytest.importorskip("waffle")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "COV"))}
    done = subprocess.run(
        [sys.executable, "-c", _WITH_WAFFLE],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_same_people_are_let_in_before_and_after(said):
    assert said["before"] == {
        "reports": [200, 404],
        "class": [200, 404],
        "team": ["single sign-on", "passwords"],
        "template": [True, False],
    }
    assert said["after"] == {**said["before"], "reports": [200, 403], "class": [200, 403]}
    assert said["in between"] == [200, 404]


def test_who_would_notice_is_listed(said):
    assert said["differences"] == [[], [["bert", True, False]]]

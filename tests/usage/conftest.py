import uuid

import pytest
from django.test import modify_settings

from tests.usage.databases import KnownDatabase
from tests.usage.servers import PostgresServer


@pytest.fixture(scope="session")
def postgres():
    server = PostgresServer()
    yield server.settings
    server.stop()


@pytest.fixture(scope="session")
def usage_app(django_db_blocker):
    """The opt-in app, installed; and databases that are ours to open."""
    with modify_settings(INSTALLED_APPS={"append": "entitlement_gate.usage"}), django_db_blocker.unblock():
        yield


@pytest.fixture(scope="session")
def sqlite_alias(usage_app, tmp_path_factory):
    database = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(tmp_path_factory.mktemp("sqlite") / "ledger.sqlite3"),
        # As `fsync=off` of our PostgreSQL: processes die in these tests, the machine does not.
        "OPTIONS": {"init_command": "PRAGMA synchronous = OFF"},
    }
    with KnownDatabase(f"ledger_{uuid.uuid4().hex}", database) as alias:
        yield alias


@pytest.fixture(scope="session")
def postgres_alias(usage_app, postgres):
    with KnownDatabase(f"ledger_{uuid.uuid4().hex}", dict(postgres)) as alias:
        yield alias


@pytest.fixture(params=["sqlite_alias", "postgres_alias"])
def alias(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def ledger(alias):
    from tests.usage.test_ledger import emptied

    ledger = emptied(alias)
    yield ledger
    ledger.close()

"""Databases of our own beside the one that pytest-django keeps, and ledgers in fresh processes."""

import django
from django.conf import settings


def made_ledger(database):
    """Return a ledger in a process that knows nothing of Django yet."""
    if not settings.configured:
        settings.configure(
            INSTALLED_APPS=["entitlement_gate.usage"],
            DATABASES={"default": database},
            DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
            USE_TZ=True,
        )
        django.setup()
    from entitlement_gate.usage.ledger import DatabaseLedger

    return DatabaseLedger("default")


class KnownDatabase:
    """Adds a database to the project's, migrated for the ledger, for as long as the block lasts."""

    def __init__(self, alias, database):
        self.alias, self.database = alias, database

    def __enter__(self):
        from django.core.management import call_command
        from django.db import connections

        connections.settings[self.alias] = self.database
        connections.configure_settings(connections.settings)
        call_command("migrate", "entitlement_usage", database=self.alias, verbosity=0)
        return self.alias

    def __exit__(self, *_):
        from django.db import connections

        connections[self.alias].close()
        del connections[self.alias]
        del connections.settings[self.alias]

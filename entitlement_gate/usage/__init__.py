"""The opt-in app that keeps a ledger in the project's own database.

Add ``entitlement_gate.usage`` to ``INSTALLED_APPS``, migrate, and set ``LEDGER`` to ``"database"``. The rule of using
up and its verbs are in ``entitlement_gate.ledger``.
"""

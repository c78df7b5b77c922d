"""The opt-in app that keeps a ledger in the project's own database.

Add ``entitlement_gate.usage`` to ``INSTALLED_APPS``, migrate, and set ``LEDGER`` to ``"database"``. Never here: the
rule of using up and its verbs (``entitlement_gate.ledger``).
"""

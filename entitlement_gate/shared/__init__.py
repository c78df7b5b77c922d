"""Snapshots that processes share through Redis, so that a fleet asks billing as often as one process would.

Never here: how long data is good and what a failure means to a check (``engine``), counting what is used up
(``ledger``).
"""

"""Between a check and the billing API: snapshots kept fresh, decisions made from them, balances used up.

The framework-free heart: it knows no Django, no HTTP and no store.
"""

"""Using up: a count of our own over balances that billing moves only now and then.

May live here: the rule, the verbs, and the stores that need no Django. Never here: whether a grant is live
(``domain``), fetching (``engine``), models (``entitlement_gate.usage``).
"""

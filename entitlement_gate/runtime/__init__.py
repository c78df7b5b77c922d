"""Between a check and the billing API: the cache, the shared waits, the breaker, and the gate made of them.

Never here: Django, JSON, HTTP, or what an entitlement allows.
"""

"""The billing API: its JSON, its paging and retries, and the client that speaks to it.

Never here: caches, threads, Django, or what an entitlement allows.
"""

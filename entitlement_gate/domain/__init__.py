"""What an entitlement is and when it allows. Pure: no I/O, no clock, no settings.

May live here: the grants, the rule, its answers and its errors. Never here: HTTP, JSON, caches, Django (one
exception class apart, see ``errors``), or anything that reads the time by itself.
"""

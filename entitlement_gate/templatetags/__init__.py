"""Template tags: ``{% load entitlements %}``."""

"""``manage.py entitlements``; its answers are made in ``operators``."""

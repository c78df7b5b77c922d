"""``manage.py entitlements``. Never here: the logic behind it (``operators``)."""

"""What operators ask: the logic behind ``manage.py entitlements``, ``entitlement-gate`` and the admin page.

What looks at a project (``gates``, ``project``) knows Django; the console script uses the others without any settings.
Never here: arguments of commands, HTML, or what an entitlement allows.
"""

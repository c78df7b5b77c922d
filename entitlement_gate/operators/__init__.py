"""What operators ask: the logic behind ``manage.py entitlements``, ``entitlement-gate`` and the admin page.

What looks at a project (``gates``, ``names_in_calls``, ``names_in_templates``, ``places``, ``project``) knows Django;
the console script uses the others without any settings. Never here: arguments of one door alone, HTML, or what an
entitlement allows.
"""

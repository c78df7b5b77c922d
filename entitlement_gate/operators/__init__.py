"""What operators ask: the logic behind ``manage.py entitlements``, ``entitlement-gate`` and the admin page.

What looks at a project (``gates``, ``project``) knows Django; the console script uses the others without any settings.
The arguments of the commands are in ``cli`` and ``management``, HTML is in ``admin``.
"""

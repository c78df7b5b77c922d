"""A Celery project in processes of its own, and what starts them."""

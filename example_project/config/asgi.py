"""For ASGI servers: ``uvicorn config.asgi:application``."""

import os

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# With the static files: a deployment has its web server send them.
application = ASGIStaticFilesHandler(get_asgi_application())

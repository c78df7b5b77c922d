"""For WSGI servers, and for ``manage.py runserver``."""

import os

from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# With the static files: a deployment has its web server send them.
application = StaticFilesHandler(get_wsgi_application())

"""What mypy knows of Django's models: those of the suite, and those of the example, which is checked too."""

import sys
from pathlib import Path

from tests import settings

sys.path.append(str(Path(__file__).parents[2] / "example_project"))

SECRET_KEY = settings.SECRET_KEY
ROOT_URLCONF = settings.ROOT_URLCONF
DATABASES = settings.DATABASES
DEFAULT_AUTO_FIELD = settings.DEFAULT_AUTO_FIELD
INSTALLED_APPS = [*settings.INSTALLED_APPS, "fieldnotes"]

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import entitlement_gate

PACKAGE = Path(entitlement_gate.__file__).parent


def run(code):
    """Run code in a new interpreter and return what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_public_names_are_sorted_and_unique():
    assert entitlement_gate.__all__ == sorted(set(entitlement_gate.__all__))


@pytest.mark.parametrize("name", entitlement_gate.__all__)
def test_every_public_name_can_be_imported_and_is_what_it_says(name):
    found = getattr(entitlement_gate, name)
    assert found.__name__ == name
    assert found.__module__.startswith("entitlement_gate.")
    assert getattr(sys.modules[found.__module__], name) is found
    assert found.__doc__


def test_what_is_importable_is_what_is_listed():
    names = {name for name in dir(entitlement_gate) if name.isidentifier() and not name.startswith("_")}
    modules = {path.stem for path in PACKAGE.iterdir()}
    imported = {"annotations", "export", "TYPE_CHECKING"}
    assert names - modules - imported == set(entitlement_gate.__all__)


def test_what_type_checkers_see_is_what_is_listed():
    source = (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    block = re.search(r"if TYPE_CHECKING:\n(.*?)\n\n__version__", source, re.DOTALL).group(1)
    names = re.findall(r"\w+", re.sub(r"from [\w.]+ import", "", block))
    assert sorted(names) == entitlement_gate.__all__


def test_a_star_import_brings_the_public_names_alone():
    code = "from entitlement_gate import *; print(*sorted(n for n in dir() if n[:2] != '__'))"
    assert run(code).split() == entitlement_gate.__all__


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'entitlement_gate' has no attribute 'nothing'"):
        _ = entitlement_gate.nothing
    with pytest.raises(ImportError, match="nothing"):
        from entitlement_gate import nothing  # noqa: F401 - it is not there


def test_importing_the_package_loads_nothing_and_starts_nothing():
    code = (
        "import sys, threading, entitlement_gate;"
        "heavy = {'httpx', 'pydantic', 'cachetools', 'django', 'asgiref', 'redis'} & set(sys.modules);"
        "print(sorted(heavy), threading.active_count())"
    )
    assert run(code) == "[] 1"


def test_the_public_names_need_neither_http_nor_settings_nor_threads():
    code = (
        "import sys, threading, entitlement_gate;"
        "names = [getattr(entitlement_gate, n) for n in entitlement_gate.__all__ if n != 'ZenskarClient'];"
        "from django.conf import settings;"
        "print([m for m in ('httpx', 'pydantic', 'redis') if m in sys.modules], settings.configured, "
        "threading.active_count())"
    )
    assert run(code) == "[] False 1"


def test_the_client_can_be_imported_without_pydantic_and_settings():
    code = (
        "import sys; from entitlement_gate import ZenskarClient; from django.conf import settings;"
        "print('pydantic' in sys.modules, settings.configured)"
    )
    assert run(code) == "False False"


def test_decorating_needs_no_settings():
    code = (
        "from entitlement_gate import requires_entitlement; from django.conf import settings;"
        "requires_entitlement('sso')(lambda request: None); print(settings.configured)"
    )
    assert run(code) == "False"


def test_installing_the_app_starts_nothing():
    code = (
        "import django, sys, threading; from django.conf import settings;"
        "settings.configure(INSTALLED_APPS=['entitlement_gate'], ENTITLEMENT_GATE={'BASE_URL': 'sandbox:'});"
        "django.setup(); print([m for m in ('httpx', 'pydantic') if m in sys.modules], threading.active_count())"
    )
    assert run(code) == "[] 1"


def test_the_version_is_one_that_an_installer_can_read():
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", entitlement_gate.__version__)


def test_no_two_modules_and_no_two_classes_have_one_name():
    modules, classes = Counter(), Counter()
    for path in PACKAGE.rglob("*.py"):
        modules[path.stem] += 1
        classes.update(re.findall(r"^class (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    of_django = {"__init__", "apps", "models", "entitlements"}  # the last: the command, the tags, what a customer has
    assert {name for name, number in modules.items() if number > 1} <= of_django
    # One middleware for Django and one for Starlette; the sandbox's reply is not the client's.
    assert {name for name, number in classes.items() if number > 1} <= {"EntitlementMiddleware", "Reply"}

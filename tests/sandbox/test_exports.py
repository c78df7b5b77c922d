import doctest
import subprocess
import sys
from importlib import import_module
from pkgutil import iter_modules

import pytest

from entitlement_gate import sandbox

MODULES = [f"{sandbox.__name__}.{found.name}" for found in iter_modules(sandbox.__path__)]


def test_every_public_name_can_be_imported_and_is_listed():
    assert sandbox.__all__ == sorted(sandbox.__all__)
    assert set(sandbox.__all__) <= set(dir(sandbox))
    for name in sandbox.__all__:
        assert getattr(sandbox, name).__name__ == name


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sandbox.nothing


@pytest.mark.parametrize("name", ["Sandbox", "SandboxServer"])
def test_the_sandbox_and_its_server_need_no_httpx(name):
    code = f"import sys, entitlement_gate.sandbox as s; s.{name}; sys.exit('httpx' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


@pytest.mark.parametrize("name", MODULES)
def test_a_modules_names_are_sorted_and_its_examples_run(name):
    module = import_module(name)
    assert sorted(module.__all__) == sorted(set(module.__all__))
    assert all(hasattr(module, public) for public in module.__all__)
    assert doctest.testmod(module).failed == 0

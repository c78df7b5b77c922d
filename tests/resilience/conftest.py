"""The clock of the engine's tests."""

from tests.engine.conftest import clock  # noqa: F401 - a fixture

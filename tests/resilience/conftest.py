"""What the engine's tests have of it."""

from tests.engine.conftest import clock, levels  # noqa: F401 - fixtures

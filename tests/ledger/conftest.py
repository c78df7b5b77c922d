import pytest

from tests.ledger.servers import RedisServer


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server.patient_url
    server.kill()

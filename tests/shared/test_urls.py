"""Every way that REDIS_URL may name a server: snapshots, invalidations and the ledger all go over it."""

import subprocess

import pytest
import redis

from tests.engine.fakes import ANNA, BERT, eventually, feature
from tests.ledger.servers import RedisServer
from tests.ledger.test_permissions import NEEDED
from tests.shared.conftest import invalidate, shared_of


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Give a server that listens at a port, at a socket and, with a certificate of its own, at a TLS port."""
    directory = tmp_path_factory.mktemp("redis")
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(made, check=True, capture_output=True, cwd=directory)
    files = {"cert": directory / "cert.pem", "key": directory / "key.pem", "ca-cert": directory / "cert.pem"}
    tls = [text for name, path in files.items() for text in (f"--tls-{name}-file", str(path))]
    probe = RedisServer(directory)  # whose port is free once it has gone
    probe.kill()
    tls += ["--tls-auth-clients", "no"]
    server = RedisServer(directory, "--unixsocket", str(directory / "redis.sock"), "--tls-port", str(probe.port), *tls)
    server.tls_port = probe.port
    yield server
    server.kill()


USER = "anna:se%2Fcret@"
QUICK = "socket_timeout=5&socket_connect_timeout=5"
URLS = [
    "redis://127.0.0.1:{port}/0?client_name=web&protocol=2&health_check_interval=1&" + QUICK,
    "redis://127.0.0.1:{port}/1?protocol=3&" + QUICK,
    "redis://" + USER + "127.0.0.1:{port}/0?protocol=3&" + QUICK,
    "unix://{directory}/redis.sock?db=2&" + QUICK,
    "unix://" + USER + "{directory}/redis.sock?protocol=3&" + QUICK,
    "rediss://localhost:{tls_port}/3?ssl_ca_certs={directory}/cert.pem&" + QUICK,
    "rediss://localhost:{tls_port}/4?ssl_cert_reqs=none&ssl_check_hostname=false&protocol=3&" + QUICK,
]


@pytest.mark.parametrize("url", URLS)
def test_snapshots_invalidations_and_the_ledger_go_over_it(url, server, make_gate, billing):
    with redis.Redis(port=server.port) as admin:
        admin.flushall()
        admin.execute_command("ACL", "SETUSER", "anna", "on", ">se/cret", "~{entitlements:*", *NEEDED.split())
    told = {"directory": server.directory, "port": server.port, "tls_port": server.tls_port}
    billing.grants[BERT] = (feature("calls", entitlement_id="calls", quantity=10, type="Quantity"),)
    gate, other = (make_gate(redis_url=url.format(**told), ledger="redis") for _ in range(2))
    assert [each.check(ANNA, "reports").source for each in (gate, other)] == ["live", "shared"]
    for _ in range(2):  # the second is heard by who has heard already
        invalidate(gate, ANNA)
        eventually(lambda: other._snapshots.entries[ANNA].is_invalidated)
        other.check(ANNA, "reports")
    for each in (gate, other):
        assert each.consume(BERT, "calls", 3, key="once").allowed
        assert each.check(BERT, "calls").remaining == 7
    assert shared_of(other).state == "closed"

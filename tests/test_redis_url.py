import pytest
import redis

from entitlement_gate.engine.options import GateOptions
from entitlement_gate.resilience.redis_connection import connect
from entitlement_gate.resilience.redis_url import read_redis_url

PLACE = "redis://127.0.0.1:6379"
WORKING = [
    (PLACE, PLACE, {}),
    (f"{PLACE}/", PLACE, {}),
    (f"{PLACE}/3", PLACE, {"db": 3}),
    (f"{PLACE}/3?db=4", PLACE, {"db": 4}),
    ("redis:///0", "redis://", {"db": 0}),
    ("redis://[::1]:6380/1", "redis://[::1]:6380", {"db": 1}),
    ("redis://anna:p%40ss%2Fword@host/0", "redis://anna:p%40ss%2Fword@host", {"db": 0}),
    (
        f"{PLACE}?socket_timeout=1.5&socket_connect_timeout=2",
        PLACE,
        {"socket_timeout": 1.5, "socket_connect_timeout": 2.0},
    ),
    (f"{PLACE}?client_name=web", PLACE, {"client_name": "web"}),
    (f"{PLACE}?protocol=3", PLACE, {"protocol": 3}),
    (f"{PLACE}?username=anna&password=a%26b", PLACE, {"username": "anna", "password": "a&b"}),
    (
        f"{PLACE}?socket_keepalive=True&retry_on_timeout=no",
        PLACE,
        {"socket_keepalive": True, "retry_on_timeout": False},
    ),
    (f"{PLACE}?health_check_interval=9&max_connections=16", PLACE, {"health_check_interval": 9, "max_connections": 16}),
    (f"{PLACE}?decode_responses=False&encoding=UTF-8&encoding_errors=strict", PLACE, {}),
    ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock", {"db": 2}),
    ("unix://anna:secret@/run/redis.sock", "unix://anna:secret@/run/redis.sock", {}),
    (
        (
            "rediss://host/0?ssl_cert_reqs=none&ssl_check_hostname=false&ssl_ca_certs=/ca.pem&ssl_min_version=771"
            "&ssl_keyfile=/key.pem&ssl_certfile=/cert.pem&ssl_ciphers=HIGH"
        ),
        "rediss://host",
        {
            "db": 0,
            "ssl_cert_reqs": "none",
            "ssl_check_hostname": False,
            "ssl_ca_certs": "/ca.pem",
            "ssl_keyfile": "/key.pem",
            "ssl_certfile": "/cert.pem",
            "ssl_ciphers": "HIGH",
            "ssl_min_version": 771,
        },
    ),
]
REFUSED = [
    (None, "a URL such as"),
    (6379, "a URL such as"),
    ("", "a URL such as"),
    ("127.0.0.1:6379", "a URL such as"),
    ("http://127.0.0.1:6379", "a URL such as"),
    ("redis:/127.0.0.1", "a URL such as"),
    (" redis://127.0.0.1", "a URL such as"),
    ("redis://127.0.0.1:abc/0", "a port is a number"),
    ("redis://127.0.0.1:99999/0", "a port is a number"),
    ("redis://127.0.0.1:0/0", "a URL such as"),
    ("redis://[::1", "a URL such as"),
    ("redis://:se/cret@host:6379/0", "a port is a number"),
    ("redis://:se#cret@host:6379/0", "%23|a port is a number"),
    ("redis://:12#cret@host:6379/0", "%23"),
    (f"{PLACE}/first", "the number of a database"),
    (f"{PLACE}/-1", "the number of a database"),
    (f"{PLACE}/1/2", "the number of a database"),
    (f"{PLACE}?db=one", "db is a whole number"),
    ("unix://", "whole path"),
    ("unix://run/redis.sock", "whole path"),
    (f"{PLACE}?decode_responses=True", "decode_responses cannot be changed"),
    (f"{PLACE}?encoding=utf-16", "encoding cannot be changed"),
    (f"{PLACE}?encoding_errors=ignore", "encoding_errors cannot be changed"),
    (f"{PLACE}?protocol=4", "protocol is 2 or 3"),
    (f"{PLACE}?socket_timeout=soon", "socket_timeout is seconds"),
    (f"{PLACE}?socket_timeout=0", "socket_timeout is seconds"),
    (f"{PLACE}?socket_connect_timeout=inf", "socket_connect_timeout is seconds"),
    (f"{PLACE}?socket_timeout=nan", "socket_timeout is seconds"),
    (f"{PLACE}?max_connections=0", "max_connections is a whole number of at least 1"),
    ("rediss://host?ssl_keyfile=/key.pem", "ssl_keyfile needs ssl_certfile"),
    ("rediss://host?ssl_ciphers=strong", "ssl_ciphers is a list of ciphers in the format of OpenSSL"),
    (f"{PLACE}?socket_keepalive=maybe", "socket_keepalive is true or false"),
    (f"{PLACE}?client_name=two%20words", "client_name is visible ASCII"),
    (f"{PLACE}?timeout=20", "the option timeout does not work here"),
    (f"{PLACE}?retry_on_error=x", "the option retry_on_error does not work here"),
    (f"{PLACE}?ssl_cert_reqs=none", "the option ssl_cert_reqs does not work here"),
    ("rediss://host?ssl_cert_reqs=sometimes", "ssl_cert_reqs is none or optional or required"),
    ("rediss://host?ssl_min_version=3", "ssl_min_version is 771 or 772"),
    ("unix:///run/redis.sock?socket_keepalive=1", "the option socket_keepalive does not work here"),
]


@pytest.mark.parametrize(("url", "place", "options"), WORKING, ids=[url for url, *_ in WORKING])
def test_what_can_work_is_kept_and_redis_py_takes_it(url, place, options):
    assert read_redis_url(url) == (place, options)
    with connect(url, timeout=0.25) as client:
        connection = client.connection_pool.make_connection()
        assert connection.db == options.get("db", 0)
        assert connection.socket_timeout == options.get("socket_timeout", 0.25)
    with redis.Redis.from_url(url) as theirs:
        mine, other = client.connection_pool.connection_kwargs, theirs.connection_pool.connection_kwargs
        assert {name: mine.get(name) for name in ("host", "port", "path", "password")} == {
            name: other.get(name) for name in ("host", "port", "path", "password")
        }


@pytest.mark.parametrize(("url", "why"), REFUSED, ids=[str(url) for url, _ in REFUSED])
def test_what_cannot_work_is_refused_by_its_name_and_never_quoted(url, why):
    with pytest.raises(ValueError, match=f"redis_url: .*({why})") as refusal:
        read_redis_url(url)
    assert "cret" not in str(refusal.value)
    assert refusal.value.__cause__ is None
    if url is not None:
        with pytest.raises(ValueError, match="redis_url: "):
            GateOptions(redis_url=url)


def test_an_option_that_nobody_knows_is_not_quoted_it_may_be_half_a_password():
    with pytest.raises(ValueError, match="an option does not work here") as refusal:
        read_redis_url(f"{PLACE}?password=half&of_it=secret")
    assert "of_it" not in str(refusal.value)
    assert "socket_timeout" in str(refusal.value)


@pytest.mark.filterwarnings("ignore:Call to '__init__':DeprecationWarning")  # redis-py calls them otherwise by now
def test_a_client_may_name_its_library():
    with connect(f"{PLACE}?lib_name=eg&lib_version=1", timeout=0.25) as client:
        assert client.connection_pool.make_connection()


def test_an_answer_may_take_as_long_as_it_has_to_whatever_the_url_says():
    for given, seconds in (("0.1", 0.75), ("2", 2)):
        with connect(f"{PLACE}?socket_timeout={given}", timeout=0.25, patience=0.75) as client:
            assert client.connection_pool.connection_kwargs["socket_timeout"] == seconds


@pytest.mark.parametrize(
    ("connections", "concurrency", "needed"), [(15, 1, 16), (16, 16, 16), (63, 64, 64), (64, 64, 64)]
)
def test_a_gate_refuses_fewer_connections_than_it_has_threads(connections, concurrency, needed):
    options = {"redis_url": f"{PLACE}?max_connections={connections}", "max_concurrency": concurrency}
    if connections >= needed:
        assert GateOptions(**options).redis_url
    else:
        with pytest.raises(ValueError, match=f"redis_url: the option max_connections is at least {needed}"):
            GateOptions(**options)

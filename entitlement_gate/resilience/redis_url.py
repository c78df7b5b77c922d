"""A Redis URL and its options, refused early where they cannot work. Never here: redis-py, which not everybody has.

redis-py takes any option and says at the first use, on whatever thread that is, that it does not know it or that its
text is no number. So the options are read here, by one list and to their types.
"""

from __future__ import annotations

import re
import ssl
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from urllib.parse import SplitResult

__all__ = ["OPTIONS", "RedisURL", "read_redis_url"]

_EXAMPLE = "a URL such as redis://127.0.0.1:6379/0 (rediss:// and unix:// work too)"
_TRUE, _FALSE = ("1", "t", "true", "y", "yes"), ("0", "f", "false", "n", "no")
_CLIENT_NAME = re.compile(r"[!-~]+")
_TLS_VERSIONS = ("771", "772")  # 1.2 and 1.3


class RedisURL(NamedTuple):
    """What a client is made of.

    Attributes:
        place: the URL without database and options.
        options: keyword arguments of redis-py.
    """

    place: str
    options: dict[str, Any]


def read_redis_url(url: object) -> RedisURL:
    """Return where a Redis is and how to talk to it.

    Raises:
        ValueError: that cannot work. The text never quotes the URL, which may hold a password.
    """
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        port = parts.port
    except ValueError:
        raise ValueError(
            f"redis_url: {_EXAMPLE}; a port is a number, and in a password / ? # @ : are %-encoded"
        ) from None
    if parts.scheme not in OPTIONS or not str(url).startswith(f"{parts.scheme}://"):
        raise ValueError(f"redis_url: {_EXAMPLE}, or None")
    if port == 0 or parts.fragment:
        raise ValueError(f"redis_url: {_EXAMPLE}; what follows a # is not read: %-encode it as %23")
    is_socket = parts.scheme == "unix"
    if is_socket and (parts.hostname or not parts.path.strip("/")):
        raise ValueError("redis_url: unix:// names a socket by its whole path, as in unix:///run/redis.sock?db=0")
    options = _read(parse_qs(parts.query), OPTIONS[parts.scheme])
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise ValueError("redis_url: the option ssl_keyfile needs ssl_certfile, the certificate of that key")
    if not is_socket:
        options = {**_database(parts), **options}
    return RedisURL(f"{parts.scheme}://{parts.netloc}{parts.path if is_socket else ''}", options)


def _database(parts: SplitResult) -> dict[str, Any]:
    path = unquote(parts.path).strip("/")
    try:
        return {"db": _whole(path)} if path else {}
    except ValueError:  # redis-py takes the database 0 then, and says nothing
        raise ValueError("redis_url: the path is the number of a database, as in redis://127.0.0.1:6379/0") from None


def _read(query: Mapping[str, list[str]], readers: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, (text, *_) in query.items():
        if name in _FIXED:
            if text.lower() not in _FIXED[name]:
                raise ValueError(f"redis_url: {name} cannot be changed: answers are read as bytes, text is UTF-8")
            continue
        if name not in readers:
            # A name that redis-py does not know either may be the rest of a password with an & in it.
            what = f"the option {name}" if name in OPTIONS["rediss"] or name in _OTHERS else "an option"
            raise ValueError(f"redis_url: {what} does not work here; those that do: {', '.join(sorted(readers))}")
        try:
            options[name] = readers[name](text)
        except ValueError as error:
            raise ValueError(f"redis_url: the option {name} is {error}") from None
    return options


def _whole(text: str, least: int = 0) -> int:
    if not (text.isascii() and text.isdigit() and int(text) >= least):
        raise ValueError(f"a whole number of at least {least}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError("seconds, a number above 0")
    return seconds


def _flag(text: str) -> bool:
    if text.lower() not in {*_TRUE, *_FALSE}:
        raise ValueError("true or false")
    return text.lower() in _TRUE


def _name(text: str) -> str:
    if not _CLIENT_NAME.fullmatch(text):
        raise ValueError("visible ASCII without blanks")
    return text


def _ciphers(text: str) -> str:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ciphers(text)
    except ssl.SSLError:
        raise ValueError("a list of ciphers in the format of OpenSSL") from None
    return text


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(" or ".join(words))
        return text

    return read


def _number_of(*words: str) -> Callable[[str], int]:
    read = _one_of(*words)
    return lambda text: int(read(text))


_EVERYWHERE: dict[str, Callable[[str], Any]] = {
    "client_name": _name,
    "db": _whole,
    "health_check_interval": _whole,
    "lib_name": _name,
    "lib_version": _name,
    "max_connections": partial(_whole, least=1),
    "password": str,
    "protocol": _number_of("2", "3"),
    "retry_on_timeout": _flag,
    "socket_connect_timeout": _seconds,
    "socket_timeout": _seconds,
    "username": str,
}
_TCP: dict[str, Callable[[str], Any]] = {**_EVERYWHERE, "socket_keepalive": _flag}
_TLS: dict[str, Callable[[str], Any]] = {
    **_TCP,
    "ssl_ca_certs": str,
    "ssl_ca_data": str,
    "ssl_ca_path": str,
    "ssl_cert_reqs": _one_of("none", "optional", "required"),
    "ssl_certfile": str,
    "ssl_check_hostname": _flag,
    "ssl_ciphers": _ciphers,
    "ssl_keyfile": str,
    "ssl_min_version": _number_of(*_TLS_VERSIONS),
    "ssl_password": str,
}
OPTIONS: Mapping[str, dict[str, Callable[[str], Any]]] = {"redis": _TCP, "rediss": _TLS, "unix": _EVERYWHERE}
"""What may follow a URL of each scheme, and how it is read."""

_FIXED = {"decode_responses": _FALSE, "encoding": ("utf-8", "utf8"), "encoding_errors": ("strict",)}
# Of redis-py's other options, those that somebody may have in a URL.
_OTHERS = frozenset({"legacy_responses", "retry_on_error", "socket_read_size", "socket_type", "ssl", "timeout"})

"""What a client is made with: credentials and options, refused early where they cannot work."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, MutableMapping
from dataclasses import dataclass
from typing import TypedDict
from urllib.parse import urlsplit

from entitlement_gate.domain.errors import CredentialUnavailable

__all__ = [
    "SANDBOX",
    "ClientKeywords",
    "ClientOptions",
    "Credentials",
    "Secret",
    "check_at_least_one",
    "check_seconds",
    "is_loopback",
    "is_texts",
]

SANDBOX = "sandbox:"
"""A base URL that runs the bundled sandbox in the process; a path to a scenario file may follow."""

Secret = str | Callable[[], str]
"""Text, or a zero-argument callable that returns it (asked at each fetch)."""

_LARGEST_PAGE = 100
_HEADER_VALUE = re.compile(r"[\x21-\x7e]+(?:[ \t]+[\x21-\x7e]+)*")


class ClientKeywords(TypedDict, total=False):
    """The keyword arguments of ``ZenskarClient``; their meaning stands at ``ClientOptions``."""

    base_url: str
    api_version: str | None
    status_filter: Collection[str] | None
    page_size: int
    max_pages: int
    max_body_bytes: int
    deadline: float
    connect_timeout: float
    max_attempts: int
    max_concurrency: int
    trust_env: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """How a client talks to billing.

    Attributes:
        base_url: https, or http to a loopback address. ``sandbox:`` runs the bundled sandbox in the process; a path to
            a scenario may follow.
        api_version: the ``apiversion`` header; ``None`` sends none.
        status_filter: the statuses asked for. ``None`` asks for every row: refusals then say ``expired``, ``draft`` or
            ``voided`` where they would say ``not_entitled``.
        page_size: rows a page, 1 to 100.
        max_pages: more pages than this are a failed fetch.
        max_body_bytes: a longer body, compressed or not, is a failed fetch.
        deadline: seconds that a fetch may take, all told.
        connect_timeout: seconds that one connection attempt may take.
        max_attempts: tries a request, the first included.
        max_concurrency: connections at a time.
        trust_env: use the proxies that the environment names.

    Raises:
        ValueError: an option cannot work; the message names it.
    """

    base_url: str = "https://api.zenskar.com"
    api_version: str | None = "20240301"
    status_filter: Collection[str] | None = ("active",)
    page_size: int = 100
    max_pages: int = 50
    max_body_bytes: int = 4 * 1024 * 1024
    deadline: float = 3.0
    connect_timeout: float = 1.0
    max_attempts: int = 3
    max_concurrency: int = 16
    trust_env: bool = False

    def __post_init__(self) -> None:
        _check_base_url(self.base_url)
        for name in ("page_size", "max_pages", "max_body_bytes", "max_attempts", "max_concurrency"):
            check_at_least_one(name, getattr(self, name))
        for name in ("deadline", "connect_timeout"):
            check_seconds(name, getattr(self, name))
        if self.page_size > _LARGEST_PAGE:
            raise ValueError(f"page_size: billing gives {_LARGEST_PAGE} rows a page at most, not {self.page_size}")
        if self.api_version is not None and not _is_header_value(self.api_version):
            raise ValueError(f"api_version: a date as text or None, not {self.api_version!r}")
        if not (self.status_filter is None or is_texts(self.status_filter)):
            raise ValueError(f"status_filter: a list of statuses or None, not {self.status_filter!r}")


class Credentials:
    """A key and an organisation that can be used but not read by accident."""

    __slots__ = ("_secrets",)

    def __init__(self, api_key: Secret, organisation: Secret) -> None:
        self._secrets = {"api_key": api_key, "organisation": organisation}

    def __repr__(self) -> str:
        return "Credentials(***)"

    def __reduce__(self) -> str:
        raise TypeError("credentials are not pickled")

    def fall_back(self, api_key: str, organisation: str, *, instead: bool = False) -> None:
        """Use these where none were given, or instead of those that were."""
        secrets: dict[str, Secret] = dict.fromkeys(self._secrets, "") if instead else self._secrets
        others = {"api_key": api_key, "organisation": organisation}
        self._secrets = {name: secrets[name] or other for name, other in others.items()}

    def check(self) -> None:
        """Raise ``ValueError`` naming the credential that no header could hold; callables are asked later."""
        for name, secret in self._secrets.items():
            is_usable = callable(secret) or _is_header_value(secret)
            secret = ""  # noqa: PLW2901 - error pages show the locals of the frame that raises
            if not is_usable:
                raise ValueError(
                    f"{name}: text that a header can hold (visible ASCII, no line break, no blank at either "
                    "end), or a callable that returns it; what was given is empty or something else"
                )

    def put_into(self, headers: MutableMapping[str, str]) -> None:
        """Set the two headers.

        Raises:
            CredentialUnavailable: a callable failed or returned what no header can hold.
        """
        try:
            headers["x-api-key"] = _reveal("api_key", self._secrets["api_key"])
            headers["organisation"] = _reveal("organisation", self._secrets["organisation"])
        except CredentialUnavailable:
            headers.pop("x-api-key", None)  # error pages show the locals of every frame
            raise


def _reveal(name: str, secret: Secret) -> str:
    if not callable(secret):
        return secret
    try:
        value = secret()
    except Exception as error:  # noqa: BLE001 - the application's code; its error may quote the secret
        failure = type(error).__name__
    else:
        if _is_header_value(value):
            return value
        value, failure = "", "no header can hold what it returned"
    raise CredentialUnavailable(f"the {name} callable failed: {failure}")


def _is_header_value(value: object) -> bool:
    return isinstance(value, str) and _HEADER_VALUE.fullmatch(value) is not None


def is_texts(value: object) -> bool:
    """Whether this is a collection of texts, and not one text by mistake."""
    return isinstance(value, Collection) and not isinstance(value, str) and all(isinstance(text, str) for text in value)


def check_at_least_one(name: str, value: object) -> None:
    """Refuse an option that is no whole number above 0."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}: a whole number of at least 1, not {value!r}")


def check_seconds(name: str, value: object, *, may_be_zero: bool = False) -> None:
    """Refuse an option that is no finite number above 0, or of at least 0."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value < float("inf") or (value == 0 and not may_be_zero):  # type: ignore[operator]  # a number, by the line above
        raise ValueError(f"{name}: seconds, a number {'of at least' if may_be_zero else 'above'} 0, not {value!r}")


def _check_base_url(base_url: object) -> None:
    if isinstance(base_url, str) and base_url.startswith(SANDBOX):
        return
    try:
        parts = urlsplit(base_url if isinstance(base_url, str) else "")
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    if not host:
        raise ValueError("base_url: an https URL such as https://api.zenskar.com")
    if parts.username is not None or parts.password is not None:
        raise ValueError("base_url: credentials do not belong into the URL; use api_key and organisation")
    if re.search(r"[^\x21-\x7e]|[\\?#]", str(base_url)):
        raise ValueError("base_url: visible ASCII without query, fragment or backslash")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise ValueError("base_url: https, or http to a loopback address: the key would travel in the clear")


def is_loopback(host: str) -> bool:
    """Whether a host, by name or address, is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

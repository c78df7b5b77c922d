"""The settings: one dict, ``ENTITLEMENT_GATE``, read when it is first needed and again when it changes.

The options of the gate and the client, with their defaults and validation, are in ``engine.options`` and
``zenskar.client_options``.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.functional import Promise
from django.utils.module_loading import import_string

from entitlement_gate.engine.options import GateOptions
from entitlement_gate.refusals import checked_status_codes
from entitlement_gate.url_rules import Rule, read_rules
from entitlement_gate.zenskar.client_options import SANDBOX, ClientOptions, Credentials, Secret, is_texts

__all__ = [
    "SETTING",
    "Settings",
    "get_settings",
    "known_keys",
    "rules_in_settings",
    "unknown_keys",
    "urlconfs_in_settings",
]

SETTING = "ENTITLEMENT_GATE"
_Options = TypeVar("_Options", GateOptions, ClientOptions)
# Not settings of the project: `trust_env` is for scripts that make their own client.
_ONLY_IN_CODE = frozenset({"TRUST_ENV"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings, typed and checked. Fields are the keys in lower case.

    Attributes:
        api_key: the key: text, or a function without arguments. Needed, the sandbox and another source apart.
        organisation: the organisation's id: text, or a function without arguments. Needed as the key is.
        source: a function without arguments that returns another source than Zenskar, or its dotted path; then the keys
            of the client do not count, ``deadline`` and ``max_concurrency`` apart.
        client: the options of the client.
        gate: the options of the gate.
        customer_resolver: ``(request)`` to a ``UUID``, its text or ``None``; a dotted path or a function, sync or
            async.
        customer_attribute: where the default resolver finds the id: a dotted path from the user.
        denied_handler: ``(request, decision)`` to a response; a dotted path or a function, sync or async.
        status_codes: a reason to the HTTP status of its refusal, 400 to 599.
        upgrade_url: where more can be had: a URL, a URL name (``"billing:plans"``), or ``(request, decision)`` to a
            URL.
        anonymous: ``"deny"``, or ``"login"``: a person without a customer who is not logged in is sent to the login
            page (``LOGIN_URL``), which ``rules`` then leave alone; never from a view marked ``login_not_required``.
        rules (Sequence[Mapping[str, Any]]): gates by path, view or namespace.
        urlconfs: dotted paths of URLconfs beside ``ROOT_URLCONF``, which a middleware sets as ``request.urlconf``:
            system checks and the command ``gates`` look at their views too. Rules are enforced there in any case.
        private_responses: answers of gated views, and of those that ask by the request, say ``Cache-Control: private``
            and ``Vary: Cookie, Authorization`` unless the view says itself who may keep them; ``False`` leaves them as
            they are.
        webhook_verifier: ``(request)``, raises to refuse; a dotted path or a function. With none the webhook answers
            404.
    """

    api_key: Secret = field(default="", repr=False)
    organisation: Secret = field(default="", repr=False)
    source: Callable[[], Any] | str | None = None
    client: ClientOptions = field(default_factory=ClientOptions)
    gate: GateOptions = field(default_factory=GateOptions)
    customer_resolver: Callable[..., Any] | str = "entitlement_gate.resolvers.from_user"
    customer_attribute: str = "zenskar_customer_id"
    denied_handler: Callable[..., Any] | str = "entitlement_gate.responses.denied"
    status_codes: Mapping[str, int] = field(default_factory=dict)
    upgrade_url: Callable[..., Any] | str | None = None
    anonymous: str = "deny"
    rules: tuple[Rule, ...] = ()
    urlconfs: Sequence[str] = ()
    private_responses: bool = True
    webhook_verifier: Callable[..., Any] | str | None = None

    @property
    def is_sandbox(self) -> bool:
        """Whether billing is the sandbox in this process."""
        return self.source is None and self.client.base_url.startswith(SANDBOX)

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Settings:
        """Return the settings that a dict holds; unknown keys are left to the system checks.

        Raises:
            ImproperlyConfigured: a value cannot work; the message names its key.
        """
        own = _HiddenDict({name: raw[name.upper()] for name in _OWN if name.upper() in raw})
        with _name_key():
            own["rules"] = read_rules(own.get("rules", ()))
            if not is_texts(own.get("urlconfs", ())):
                raise ValueError(f"urlconfs: a list such as ['shop.urls_of_the_api'], not {own['urlconfs']!r}")
        settings = cls(client=_read_options(ClientOptions, raw), gate=_read_options(GateOptions, raw), **own)
        settings._check()
        return settings

    def _check(self) -> None:
        if self.source is None and not self.is_sandbox:
            with _name_key():
                Credentials(self.api_key, self.organisation).check()
        for name in ("customer_resolver", "denied_handler"):
            if not (callable(getattr(self, name)) or isinstance(getattr(self, name), str)):
                raise _make_error(name.upper(), f"a dotted path or a callable, not {getattr(self, name)!r}")
        self._check_choices()
        if not isinstance(self.customer_attribute, str) or not self.customer_attribute:
            raise _make_error("CUSTOMER_ATTRIBUTE", f"a dotted path from the user, not {self.customer_attribute!r}")
        if not (self.upgrade_url is None or callable(self.upgrade_url) or isinstance(self.upgrade_url, (str, Promise))):
            raise _make_error("UPGRADE_URL", f"a URL, a URL name or a callable, not {self.upgrade_url!r}")
        with _name_key():
            checked_status_codes(self.status_codes)

    def _check_choices(self) -> None:
        if not (self.source is None or callable(self.source) or isinstance(self.source, str)):
            raise _make_error("SOURCE", f"a function that returns a source, or its dotted path, not {self.source!r}")
        if self.anonymous not in ("deny", "login"):
            raise _make_error("ANONYMOUS", f'"deny" or "login", not {self.anonymous!r}')
        if not isinstance(self.private_responses, bool):
            raise _make_error("PRIVATE_RESPONSES", f"True or False, not {self.private_responses!r}")

    def load(self, name: str) -> Callable[..., Any]:
        """Return the callable that a setting names by dotted path, or is.

        Raises:
            ImproperlyConfigured: the path leads nowhere, or to something that cannot be called.
        """
        value = getattr(self, name)
        return value if callable(value) else _load(name.upper(), "", value)

    def load_of_rule(self, rule: Rule, name: str) -> Callable[..., Any] | None:
        """Return the callable that ``key``, ``customer`` or ``on_denied`` of a rule is, or names; None where none does.

        Raises:
            ImproperlyConfigured: as above; the message names the rule.
        """
        value = getattr(rule, name)
        if value is None or (name == "on_denied" and rule.leads_to is not None):
            return None
        return _load("RULES", f"{rule}: {name}: ", value)


_OWN = frozenset(f.name for f in fields(Settings)) - {"client", "gate"}


class _HiddenDict(dict[str, Any]):
    """A dict whose repr hides the API key: error pages show the locals of every frame."""

    def __repr__(self) -> str:
        return f"<{len(self)} settings>"


class _Reading:
    """What was read of the settings between two changes of them; what is read as they change belongs to the former."""

    settings: Settings | None = None


class _Holder:
    """The reading that holds now."""

    current = _Reading()


def get_settings() -> Settings:
    """Return the project's settings; reads them once, and again after ``override_settings``.

    Raises:
        ImproperlyConfigured: they are missing or cannot work; the message names the key.
    """
    reading = _Holder.current  # before anything is read
    if reading.settings is None:
        if not isinstance(getattr(django_settings, SETTING, None), Mapping):
            raise ImproperlyConfigured(f"{SETTING} in the settings must be a dict with API_KEY and ORGANISATION")
        reading.settings = Settings.read(_HiddenDict(getattr(django_settings, SETTING)))
    return reading.settings


def rules_in_settings() -> tuple[Rule, ...]:
    """Return ``RULES``, whatever the other settings are: an audit of gates needs no credentials.

    Raises:
        ImproperlyConfigured: they cannot be read.
    """
    settings = _Holder.current.settings
    if settings is not None:
        return settings.rules
    raw = getattr(django_settings, SETTING, None)
    with _name_key():
        return read_rules(raw.get("RULES", ()) if isinstance(raw, Mapping) else ())


def urlconfs_in_settings() -> tuple[str, ...]:
    """Return every URLconf of the project: ``ROOT_URLCONF`` where there is one, and those of ``URLCONFS``."""
    root = getattr(django_settings, "ROOT_URLCONF", None)
    raw = getattr(django_settings, SETTING, None)
    others = raw.get("URLCONFS", ()) if isinstance(raw, Mapping) else ()
    return tuple(dict.fromkeys([*([root] if root else []), *(others if is_texts(others) else ())]))


def known_keys() -> frozenset[str]:
    """Return every key that means something."""
    options = {f.name for cls in (ClientOptions, GateOptions) for f in fields(cls)}
    return frozenset(name.upper() for name in _OWN | options) - _ONLY_IN_CODE


def unknown_keys(raw: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the keys that mean nothing, each with the nearest one that does."""
    keys = known_keys()
    return {
        str(key): next(iter(difflib.get_close_matches(str(key).upper(), keys, n=1)), None)
        for key in raw
        if key not in keys
    }


def _import_now(path: str) -> Any:
    """Return what a dotted path leads to now, although a test may have replaced it or its module.

    Called at each request. ``import_string`` does the same in three times as long.
    """
    place, _, name = path.rpartition(".")
    module = sys.modules.get(place)
    spec = getattr(module, "__spec__", None)
    if module is not None and not getattr(spec, "_initializing", False):  # its functions lack their globals till then
        try:
            return getattr(module, name)
        except AttributeError:
            pass
    return import_string(path)  # which imports it, or waits for who does, or says what is wrong


def _load(key: str, place: str, value: Any) -> Callable[..., Any]:
    try:
        function = _import_now(value) if isinstance(value, str) else value
    except ImportError as error:
        raise _make_error(key, f"{place}{value!r} cannot be imported: {error}") from error
    if not callable(function):
        raise _make_error(key, f"{place}{value!r} cannot be called")
    return function  # type: ignore[no-any-return]  # import_string returns Any


def _read_options(cls: type[_Options], raw: Mapping[str, Any]) -> _Options:
    names = {f.name for f in fields(cls) if f.name.upper() in raw.keys() - _ONLY_IN_CODE}
    options = {name: raw[name.upper()] for name in names}
    with _name_key():
        return cls(**options)


@contextmanager
def _name_key() -> Iterator[None]:
    """Turn an option's ``ValueError``, which names it in lower case, into one that names the settings key."""
    try:
        yield
    except ValueError as error:
        name, _, what = str(error).partition(": ")
        raise _make_error(name.upper(), what) from None


def _make_error(key: str, what: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"{SETTING}[{key!r}]: {what}")


def _forget(*, setting: str, **_: Any) -> None:
    if setting == SETTING:
        _Holder.current = _Reading()


setting_changed.connect(_forget, dispatch_uid="entitlement_gate.conf")

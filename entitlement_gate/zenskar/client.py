"""The client of the billing API: what it can be asked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self, Unpack
from uuid import UUID

from entitlement_gate.domain.grants import Snapshot
from entitlement_gate.domain.rule import canonical_uuid
from entitlement_gate.resilience.clock import Deadline
from entitlement_gate.resilience.fork_safety import PerProcess, remake_after_fork
from entitlement_gate.shared.signing import Seal
from entitlement_gate.zenskar.http import Request, Sender
from entitlement_gate.zenskar.options import SANDBOX, ClientKeywords, ClientOptions, Credentials, Secret
from entitlement_gate.zenskar.pagination import all_customers, all_rows
from entitlement_gate.zenskar.parsing import grants_of
from entitlement_gate.zenskar.retry import Failure, Pause, Reply, Retries, RetryBudget, get_reply

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import httpx

    from entitlement_gate.resilience.clock import Clock
    from entitlement_gate.zenskar.models import Page
    from entitlement_gate.zenskar.retry import Flow

__all__ = ["ZenskarClient"]


class ZenskarClient(Sender):
    """Lists a customer's entitlements. Thread-safe; connects at the first fetch; usable as a context manager.

    Args:
        api_key: text or a zero-argument callable.
        organisation: the organisation's id, text or a zero-argument callable.
        transport: an httpx transport in place of the network (tests).
        clock: has ``time()`` and ``monotonic()``; the ``time`` module by default.
        **options: see ``ClientOptions``.

    Raises:
        ValueError: a credential or an option cannot work; the message names it.
    """

    options = ClientOptions()  # until its own are read: an error page shows the repr of a half-made client as well
    _budget: PerProcess[RetryBudget] = PerProcess()

    def __init__(
        self,
        api_key: Secret = "",
        organisation: Secret = "",
        *,
        transport: httpx.BaseTransport | None = None,
        clock: Clock = time,
        **options: Unpack[ClientKeywords],
    ) -> None:
        credentials = Credentials(api_key, organisation)
        api_key = organisation = ""  # error pages show the locals of every frame
        self.options = ClientOptions(**options)
        if self.options.base_url.startswith(SANDBOX) and transport is None:
            transport = _sandbox(self.options.base_url.removeprefix(SANDBOX), credentials)
        credentials.check()
        self._clock = clock
        super().__init__(self.options, credentials, transport)
        remake_after_fork(self)

    def __repr__(self) -> str:
        return f"<ZenskarClient {self.options.base_url}>"

    @property
    def base_url(self) -> str:
        """Where billing is."""
        return self.options.base_url

    def remake(self) -> None:
        """Forget the connections, as in a process just forked; the next fetch makes new ones."""
        self._budget = RetryBudget()
        super().remake()

    def fetch(self, customer_id: UUID | str, *, every_status: bool = False) -> Snapshot:
        """Return all grants of a customer: every page, or an error.

        Args:
            customer_id: whose.
            every_status: list rows that ``status_filter`` leaves out, too.

        Raises:
            ValueError: the id is no canonical UUID; nothing was sent.
            SourceError: see ``domain.errors``.
        """
        customer = _customer(customer_id)
        deadline = Deadline(self.options.deadline, self._clock)
        began = self._clock.time()
        statuses = None if every_status else self.options.status_filter
        params = {"limit": str(self.options.page_size), **_listed("status", statuses)}
        flow = all_rows(params, self._retries(deadline), self.options.max_pages)
        rows = self._run(flow, _path(customer), deadline)
        return Snapshot(customer, grants_of(rows, customer), began)

    def list_customer_entitlements(
        self,
        customer_id: UUID | str,
        *,
        cursor: str | None = None,
        limit: int | None = None,
        sort_key: str | None = None,
        sort_type: str | None = None,
        search: str | None = None,
        populate: str | Iterable[str] | None = None,
        status: str | Iterable[str] | None = None,
    ) -> Page:
        """Return one page with every documented field, for people and reports; a gate uses ``fetch``.

        ``populate`` and ``status`` are comma-separated text or its parts; None leaves a parameter out.

        Raises:
            ValueError: the id is no canonical UUID.
            SourceError: see ``domain.errors``.
        """
        from entitlement_gate.zenskar.models import Page  # noqa: PLC0415 - pydantic costs 100 ms: only on use

        customer = _customer(customer_id)
        plain = {
            "cursor": cursor,
            "limit": limit,
            "sort_key": sort_key,
            "sort_type": sort_type,
            "search": search,
        }
        params = {name: str(value) for name, value in plain.items() if value is not None}
        params |= _listed("populate", populate) | _listed("status", status)
        return Page.read(self._answered(_path(customer), params).body)

    def customers(self) -> Iterator[str]:
        """Return the id of every customer, page by page as they are iterated: all of them, or an error.

        Each page has a deadline of its own, and ``SourceError`` is raised where it fails.
        """
        return all_customers(lambda params: self._answered("customers", params).body, self.options.page_size)

    def get(self, path: str, params: Mapping[str, str] | None = None) -> Reply:
        """Send one GET, once, and return what came back, whatever its status: for reports and diagnosis.

        The whole call is held to ``options.deadline``. Redirects are not followed: the key stays with its host. Error
        bodies have the credentials blotted out.

        Args:
            path: below the base URL, its parts percent-encoded.
            params: of the query.

        Raises:
            ValueError: the path is not below the base URL; nothing was sent.
            SourceUnavailable: no answer came in time, or a credential cannot be had.
            SourceMalformed: a good answer's body cannot be decompressed, or is longer than ``max_body_bytes``.
        """
        return self._once(Request(method="GET", path=path, params=params or {}))

    def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Reply:
        """Send one POST of JSON, once; in all else as ``get``. Whoever sends it again does so with the same key.

        Args:
            path: below the base URL, its parts percent-encoded.
            body: the JSON.
            headers: more headers, such as ``Idempotency-Key``; ASCII.

        Raises:
            ValueError: the path is not below the base URL, or a header is not ASCII; nothing was sent.
            SourceUnavailable: no answer came in time, or a credential cannot be had; it may have arrived.
            SourceMalformed: a good answer's body cannot be decompressed, or is longer than ``max_body_bytes``.
        """
        told = {"content-type": "application/json", **(headers or {})}
        return self._once(Request(method="POST", path=path, headers=told, body=body))

    def seal(self) -> Seal:
        """Return what tells our snapshots from others' where processes share them: see ``shared.signing``.

        Raises:
            SourceUnavailable: a credential cannot be had now.
        """
        told: dict[str, str] = {}
        self._credentials.put_into(told)
        options = self.options
        statuses = ",".join(sorted(options.status_filter or ()))
        scope = (told["organisation"], options.base_url, options.api_version or "", statuses)
        return Seal(told.pop("x-api-key"), *scope)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answered(self, path: str, params: Mapping[str, str]) -> Reply:
        """Return the answer (status 200) to a GET, retried within a deadline of its own."""
        deadline = Deadline(self.options.deadline, self._clock)
        reply: Reply = self._run(get_reply(params, self._retries(deadline)), path, deadline)
        return reply

    def _retries(self, deadline: Deadline) -> Retries:
        return Retries(deadline, self._budget, self.options.max_attempts, self._clock)

    def _once(self, request: Request) -> Reply:
        told = self._send(request, Deadline(self.options.deadline, self._clock))
        if isinstance(told, Failure):
            raise told.error(told.why)
        return told

    def _run(self, flow: Flow, path: str, deadline: Deadline) -> Any:
        """Do what the flow says until it returns."""
        told: Reply | Failure | None = None
        while True:
            try:
                step = flow.send(told)
            except StopIteration as end:
                return end.value
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                told = None
            else:
                told = self._send(Request(method="GET", path=path, params=step.params), deadline)


def _sandbox(path: str, credentials: Credentials) -> httpx.BaseTransport:
    """Return a transport into a sandbox in this process.

    A scenario of the project's has credentials, and may be refused others; the bundled one lets everybody in.
    """
    from entitlement_gate.sandbox import Sandbox, SandboxTransport, Scenario  # noqa: PLC0415 - on use only

    scenario = Scenario.load(path) if path else Scenario.default()
    credentials.fall_back(scenario.api_key, scenario.organisation, instead=not path)
    return SandboxTransport(Sandbox(scenario))


def _path(customer: str) -> str:
    return f"entitlements/customer/{customer}"


def _customer(customer_id: UUID | str) -> str:
    customer = canonical_uuid(str(customer_id)) if isinstance(customer_id, (UUID, str)) else None
    if customer is None:
        raise ValueError(f"a customer id is a hyphenated UUID, not {str(customer_id)[:60]!r}")
    return customer


def _listed(name: str, values: str | Iterable[str] | None) -> dict[str, str]:
    text = values if isinstance(values, str) else ",".join(values or ())
    return {name: text} if text else {}

"""The client of the billing API: what it can be asked, over connections made at the first request."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self, Unpack
from uuid import UUID

import httpx

from entitlement_gate.domain.errors import AnswerTooLate, SourceUnavailable
from entitlement_gate.domain.grants import Snapshot
from entitlement_gate.domain.rule import canonical_uuid
from entitlement_gate.resilience.clock import Deadline
from entitlement_gate.resilience.fork_safety import Lock, PerProcess, remake_after_fork
from entitlement_gate.shared.records import Seal
from entitlement_gate.zenskar.client_options import SANDBOX, ClientKeywords, ClientOptions, Credentials, Secret
from entitlement_gate.zenskar.network import (
    DEADLINE,
    DeadlineTransport,
    check_path,
    environment_proxy,
    make_http,
    read_reply,
)
from entitlement_gate.zenskar.pagination import all_customers, all_rows
from entitlement_gate.zenskar.parsing import read_grants
from entitlement_gate.zenskar.retry import Failure, Pause, Reply, Retries, RetryBudget, get_reply

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from entitlement_gate.resilience.clock import Clock
    from entitlement_gate.zenskar.models import Page
    from entitlement_gate.zenskar.retry import Flow

__all__ = ["ZenskarClient"]


class ZenskarClient:
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
    _lock: PerProcess[Lock] = PerProcess()
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
            transport = _make_sandbox(self.options.base_url.removeprefix(SANDBOX), credentials)
        credentials.check()
        self._credentials = credentials
        self._transport = transport
        self._clock = clock
        self._is_closed = False
        self.remake()
        remake_after_fork(self)

    def __repr__(self) -> str:
        return f"<ZenskarClient {self.options.base_url}>"

    @property
    def base_url(self) -> str:
        """Where billing is."""
        return self.options.base_url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def remake(self) -> None:
        """Forget the connections, as in a process just forked; the next request makes new ones."""
        self._lock = Lock()
        self._budget = RetryBudget()
        self._http: httpx.Client | None = None

    def close(self) -> None:
        """Close the connections, now. Closing again does nothing; a later request is ``SourceUnavailable``."""
        with self._lock:
            self._is_closed = True
            http, self._http = self._http, None
        if http is not None:
            http.close()

    def fetch(self, customer_id: UUID | str, *, every_status: bool = False) -> Snapshot:
        """Return all grants of a customer: every page, or an error.

        Args:
            customer_id: whose.
            every_status: list rows that ``status_filter`` leaves out, too.

        Raises:
            ValueError: the id is no canonical UUID; nothing was sent.
            SourceError: see ``domain.errors``.
        """
        customer = _check_customer(customer_id)
        deadline = Deadline(self.options.deadline, self._clock)
        began = self._clock.time()
        statuses = None if every_status else self.options.status_filter
        params = {"limit": str(self.options.page_size), **_join("status", statuses)}
        flow = all_rows(params, self._retries(deadline), self.options.max_pages)
        rows = self._run(flow, _path_of(customer), deadline)
        return Snapshot(customer, read_grants(rows, customer), began)

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

        path = _path_of(_check_customer(customer_id))
        plain = {
            "cursor": cursor,
            "limit": limit,
            "sort_key": sort_key,
            "sort_type": sort_type,
            "search": search,
        }
        params = {name: str(value) for name, value in plain.items() if value is not None}
        params |= _join("populate", populate) | _join("status", status)
        return Page.read(self._get_with_retries(path, params).body)

    def customers(self) -> Iterator[str]:
        """Return the id of every customer, page by page as they are iterated: all of them, or an error.

        Each page has a deadline of its own, and ``SourceError`` is raised where it fails.
        """
        return all_customers(lambda params: self._get_with_retries("customers", params).body, self.options.page_size)

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
        return self._send_once("GET", path, params=params)

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
        headers = {"content-type": "application/json", **(headers or {})}
        return self._send_once("POST", path, headers=headers, content=body)

    def seal(self) -> Seal:
        """Return what tells our snapshots from others' where processes share them: see ``shared.records``.

        Raises:
            SourceUnavailable: a credential cannot be had now.
        """
        headers: dict[str, str] = {}
        self._credentials.put_into(headers)
        options = self.options
        statuses = ",".join(sorted(options.status_filter or ()))
        scope = (headers["organisation"], options.base_url, options.api_version or "", statuses)
        return Seal(headers.pop("x-api-key"), *scope)

    def _get_with_retries(self, path: str, params: Mapping[str, str]) -> Reply:
        """Return the answer (status 200) to a GET, within a deadline of its own."""
        deadline = Deadline(self.options.deadline, self._clock)
        reply: Reply = self._run(get_reply(params, self._retries(deadline)), path, deadline)
        return reply

    def _retries(self, deadline: Deadline) -> Retries:
        return Retries(deadline, self._budget, self.options.max_attempts, self._clock)

    def _run(self, flow: Flow, path: str, deadline: Deadline) -> Any:
        """Do what the flow says until it returns."""
        outcome: Reply | Failure | None = None
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as end:
                return end.value
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                outcome = None
            else:
                outcome = self._send(deadline, "GET", path, params=step.params)

    def _send_once(self, method: str, path: str, **message: Any) -> Reply:
        check_path(path)
        outcome = self._send(Deadline(self.options.deadline, self._clock), method, path, **message)
        if isinstance(outcome, Failure):
            raise outcome.error(outcome.why)
        return outcome

    def _send(self, deadline: Deadline, method: str, path: str, **message: Any) -> Reply | Failure:
        """Return the reply, whatever its status, or why there is none; redirects are not followed.

        ``message`` is what httpx takes: ``params``, ``headers``, ``content``.
        """
        seconds_left = deadline.remaining()
        if seconds_left <= 0:
            return Failure(f"no answer within {deadline.seconds} s", AnswerTooLate, may_retry=False)
        try:
            timeout = httpx.Timeout(seconds_left, connect=min(seconds_left, self.options.connect_timeout))
            extensions = {DEADLINE: deadline}
            with self._connect().stream(method, path, timeout=timeout, extensions=extensions, **message) as response:
                return read_reply(response, deadline, self.options.max_body_bytes)
        except httpx.TimeoutException as error:
            return Failure(f"no answer in time ({type(error).__name__})", AnswerTooLate)
        except httpx.LocalProtocolError:
            return Failure("the request could not be written", may_retry=False)
        except (httpx.HTTPError, RuntimeError) as error:  # RuntimeError: closed by another thread meanwhile
            return Failure(f"no connection ({type(error).__name__})")

    def _connect(self) -> httpx.Client:
        """Return the one ``httpx.Client`` of this process: its TLS context costs 22 ms."""
        with self._lock:
            if self._is_closed:
                raise SourceUnavailable("the client is closed")
            if self._http is None:
                self._http = make_http(self.options, self._credentials, self._transport or self._make_transport())
            return self._http

    def _make_transport(self) -> DeadlineTransport:
        options = self.options
        return DeadlineTransport(
            max_connections=options.max_concurrency,
            proxy=environment_proxy(options.base_url) if options.trust_env else None,
            ssl_context=httpx.create_ssl_context(trust_env=options.trust_env),
        )


def _make_sandbox(path: str, credentials: Credentials) -> httpx.BaseTransport:
    """Return a transport into a sandbox in this process.

    A scenario of the project's has credentials, and may be refused others; the bundled one lets everybody in.
    """
    from entitlement_gate.sandbox import Sandbox, SandboxTransport, Scenario  # noqa: PLC0415 - on use only

    scenario = Scenario.load(path) if path else Scenario.default()
    credentials.fall_back(scenario.api_key, scenario.organisation, instead=not path)
    return SandboxTransport(Sandbox(scenario))


def _path_of(customer: str) -> str:
    return f"entitlements/customer/{customer}"


def _check_customer(customer_id: UUID | str) -> str:
    customer = canonical_uuid(str(customer_id)) if isinstance(customer_id, (UUID, str)) else None
    if customer is None:
        raise ValueError(f"a customer id is a hyphenated UUID, not {str(customer_id)[:60]!r}")
    return customer


def _join(name: str, values: str | Iterable[str] | None) -> dict[str, str]:
    text = values if isinstance(values, str) else ",".join(values or ())
    return {name: text} if text else {}

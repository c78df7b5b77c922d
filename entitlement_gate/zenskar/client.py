"""The client of the billing API. Never here: what an answer means (``flow``, ``wire``), caches, Django.

Credentials reach the wire through httpx's auth hook: no frame, message or attribute of ours holds their text, and
no error of httpx, whose frames do, is chained to the errors raised from here.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Self, Unpack
from uuid import UUID

import httpx

from entitlement_gate import __version__
from entitlement_gate.domain.errors import SourceMalformed, SourceUnavailable
from entitlement_gate.domain.grants import Snapshot
from entitlement_gate.domain.rule import canonical_uuid
from entitlement_gate.forking import remake_after_fork
from entitlement_gate.zenskar.bodies import read_body, without_secrets
from entitlement_gate.zenskar.flow import Call, Deadline, Failure, Pause, Reply, RetryBudget, all_rows, answer
from entitlement_gate.zenskar.network import DeadlineTransport, environment_proxy
from entitlement_gate.zenskar.options import SANDBOX, ClientKeywords, ClientOptions, Credentials, Secret
from entitlement_gate.zenskar.wire import grants_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from entitlement_gate.zenskar.flow import Clock, Flow
    from entitlement_gate.zenskar.models import Page

__all__ = ["ZenskarClient"]

_USER_AGENT = f"entitlement_gate/{__version__}"


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

    def __init__(
        self,
        api_key: Secret = "",
        organisation: Secret = "",
        *,
        transport: httpx.BaseTransport | None = None,
        clock: Clock = time,
        **options: Unpack[ClientKeywords],
    ) -> None:
        self._credentials = Credentials(api_key, organisation)
        api_key = organisation = ""  # error pages show the locals of every frame
        self.options = ClientOptions(**options)
        if self.options.base_url.startswith(SANDBOX) and transport is None:
            transport = self._sandbox()
        self._credentials.check()
        self._transport = transport
        self._clock = clock
        self._is_closed = False
        self.remake()
        remake_after_fork(self)

    def __repr__(self) -> str:
        return f"<ZenskarClient {self.options.base_url}>"

    def remake(self) -> None:
        """Forget the connections, as in a process just forked; the next fetch makes new ones."""
        self._budget = RetryBudget()
        self._lock = threading.Lock()
        self._http: httpx.Client | None = None
        self._network: httpx.BaseTransport | None = None

    def fetch(self, customer_id: UUID | str) -> Snapshot:
        """Return all grants of a customer: every page, or an error.

        Raises:
            ValueError: the id is no canonical UUID; nothing was sent.
            SourceError: see ``domain.errors``.
        """
        customer = _customer(customer_id)
        deadline = Deadline(self.options.deadline, self._clock)
        began = self._clock.time()
        params = {"limit": str(self.options.page_size), **_listed("status", self.options.status_filter)}
        limits = {"max_attempts": self.options.max_attempts, "max_pages": self.options.max_pages}
        rows = self._run(all_rows(params, deadline, self._budget, **limits), customer, deadline)
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
        deadline = Deadline(self.options.deadline, self._clock)
        flow = answer(params, deadline, self._budget, self.options.max_attempts)
        reply: Reply = self._run(flow, customer, deadline)
        return Page.read(reply.body)

    def close(self) -> None:
        """Close the connections, now. Closing again does nothing; a later fetch is ``SourceUnavailable``."""
        with self._lock:
            self._is_closed = True
            http, self._http = self._http, None
        if http is not None:
            http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, flow: Flow, customer: str, deadline: Deadline) -> Any:
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
                told = self._send(step, customer, deadline)

    def _send(self, call: Call, customer: str, deadline: Deadline) -> Reply | Failure:
        left = deadline.remaining()
        if left <= 0:
            return Failure(f"no answer within {deadline.seconds} s", may_retry=False)
        http = self._connected(deadline)
        timeout = httpx.Timeout(left, connect=min(left, self.options.connect_timeout))
        path = f"entitlements/customer/{customer}"
        try:
            with http.stream("GET", path, params=dict(call.params), timeout=timeout) as response:
                return self._reply(response, deadline)
        except httpx.TimeoutException as error:
            return Failure(f"no answer in time ({type(error).__name__})")
        except httpx.LocalProtocolError:
            return Failure("the request could not be written", may_retry=False)
        except (httpx.HTTPError, RuntimeError) as error:  # RuntimeError: closed by another thread meanwhile
            return Failure(f"no connection ({type(error).__name__})")

    def _reply(self, response: httpx.Response, deadline: Deadline) -> Reply | Failure:
        status, headers = response.status_code, {name.lower(): value for name, value in response.headers.items()}
        # A scripted transport (httpx.MockTransport) hands over a body already read and decoded.
        is_read = response.is_stream_consumed
        encoding = "" if is_read else headers.get("content-encoding", "")
        chunks = [response.content] if is_read else response.iter_raw()
        try:
            body = read_body(chunks, encoding, deadline, most=self.options.max_body_bytes)
        except SourceMalformed:
            if status == httpx.codes.OK:
                raise
            body = b""  # any other status stands without its body
        if body is None:
            return Failure(f"the answer took longer than {deadline.seconds} s", may_retry=False)
        if status != httpx.codes.OK:
            body = without_secrets(body, response.request.headers)
        return Reply(status, headers, body)

    def _connected(self, deadline: Deadline) -> httpx.Client:
        with self._lock:
            if self._is_closed:
                raise SourceUnavailable("the client is closed")
            if self._http is None:
                self._http = self._connect()
            http = self._http
        if isinstance(self._network, DeadlineTransport):
            self._network.bound(deadline)
        return http

    def _connect(self) -> httpx.Client:
        """Make the one ``httpx.Client`` of this process: its TLS context costs 22 ms."""
        base_url = self.options.base_url
        self._network = self._transport or self._made_network()
        headers = {"accept": "application/json", "accept-encoding": "gzip", "user-agent": _USER_AGENT}
        if self.options.api_version is not None:
            headers["apiversion"] = self.options.api_version
        return httpx.Client(
            base_url="http://sandbox" if base_url.startswith(SANDBOX) else base_url,
            headers=headers,
            auth=_Auth(self._credentials),
            transport=self._network,
            trust_env=False,
            follow_redirects=False,
        )

    def _made_network(self) -> DeadlineTransport:
        many, trust_env = self.options.max_concurrency, self.options.trust_env
        limits = httpx.Limits(max_connections=many, max_keepalive_connections=many)
        proxy = environment_proxy(self.options.base_url) if trust_env else None
        return DeadlineTransport(limits=limits, trust_env=trust_env, proxy=proxy)

    def _sandbox(self) -> httpx.BaseTransport:
        """Return a transport into a sandbox in this process; its own credentials do where none were given."""
        from entitlement_gate.sandbox import Sandbox, SandboxTransport, Scenario  # noqa: PLC0415 - on use only

        path = self.options.base_url.removeprefix(SANDBOX)
        scenario = Scenario.load(path) if path else Scenario.default()
        self._credentials.fall_back(scenario.api_key, scenario.organisation)
        return SandboxTransport(Sandbox(scenario))


class _Auth(httpx.Auth):
    """Adds the credentials as the request leaves, after every frame that an error page could show."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        self._credentials.put_into(request.headers)
        yield request


def _customer(customer_id: UUID | str) -> str:
    customer = canonical_uuid(str(customer_id)) if isinstance(customer_id, (UUID, str)) else None
    if customer is None:
        raise ValueError(f"a customer id is a hyphenated UUID, not {str(customer_id)[:60]!r}")
    return customer


def _listed(name: str, values: str | Iterable[str] | None) -> dict[str, str]:
    text = values if isinstance(values, str) else ",".join(values or ())
    return {name: text} if text else {}

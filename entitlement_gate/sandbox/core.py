"""The sandbox without I/O: it turns a request into a reply.

It opens no socket, never sleeps, and reads the time from its clock alone.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from entitlement_gate import __version__
from entitlement_gate.resilience.clock import Clock
from entitlement_gate.sandbox import facts
from entitlement_gate.sandbox.faults import REPLACING, Faults, make_replacement, spoil
from entitlement_gate.sandbox.messages import (
    RefusedRequest,
    Reply,
    Request,
    cut_page,
    invalid,
    page_number,
    read_choice,
    read_json,
    read_limit,
    read_parameters,
)
from entitlement_gate.sandbox.scenario import Customer, Fault, Scenario, ScenarioError, parse_faults, read_identifier
from entitlement_gate.sandbox.state import Billing, BillingRow, ReceivedUsage, UsageBook, render_row, sort_key_of

__all__ = ["Sandbox"]

_MOST_REQUESTS = 1_000
_CONTROL = ("_sandbox", "openapi.json")

Handler = Callable[[Request], Reply]


class Sandbox(Billing):
    """A local billing API. Safe to use from several threads.

    It answers ``GET /entitlements/customer/{id}``, ``GET /customers``, ``POST /usage/{slug}`` and
    ``GET /openapi.json``. Its control plane asks for no key and meets no faults: ``GET /_sandbox`` sums up,
    ``GET /_sandbox/customers/{id}`` lists every row, ``POST /_sandbox/acts`` does what the methods below do, and
    ``GET``, ``PUT`` (a JSON list) and ``DELETE`` on ``/_sandbox/faults`` show, replace and clear the faults.

    >>> sandbox = Sandbox()
    >>> sandbox.respond(Request("GET", "/customers")).status
    401
    """

    def __init__(self, scenario: Scenario | None = None, *, clock: Clock = time) -> None:
        """Start a scenario: dates relative to now are settled here, once.

        Args:
            scenario: What to start with; ``None`` for the one that ships with the package.
            clock: Tells the time; asked anew for each request.
        """
        super().__init__(Scenario.default() if scenario is None else scenario, clock)
        self.faults = Faults(self.scenario.faults)
        self._usage = UsageBook(self.scenario.usage_slugs)
        self._requests: deque[tuple[str, str]] = deque(maxlen=_MOST_REQUESTS)
        self._request_count = 0

    @property
    def requests(self) -> list[tuple[str, str]]:
        """The last 1000 requests as (method, target), oldest first; the control plane is not counted."""
        with self._lock:
            return list(self._requests)

    @property
    def request_count(self) -> int:
        """How many requests came in all."""
        return self._request_count

    @property
    def usage_events(self) -> list[ReceivedUsage]:
        """The usage events accepted, exactly once per ``Idempotency-Key``."""
        return self._usage.events

    def fail(self, kind: str, **options: Any) -> None:
        """Switch a fault on, behind those that are on already.

        Raises:
            ScenarioError: The kind is unknown or an option cannot be.
        """
        self.faults.add(Fault.parse({"kind": kind, **options}, "fault"))

    def recover(self) -> None:
        """Switch every fault off."""
        self.faults.clear()

    def respond(self, request: Request) -> Reply:
        """Answer a request; whatever it holds, there is an answer."""
        try:
            reply = self._respond(request)
        except RefusedRequest as refusal:
            reply = refusal.reply
        return replace(reply, body=b"") if request.method == "HEAD" else reply

    def _respond(self, request: Request) -> Reply:
        if request.segments[0] in _CONTROL:
            return self._dispatch(request)
        with self._lock:
            self._requests.append((request.method, request.target))
            self._request_count += 1
        is_list = request.segments[0] == "entitlements"
        fault = self.faults.take(request.path, page_number(request) if is_list else None)
        return self._dispatch(request) if fault is None else self._respond_badly(request, fault)

    def _respond_badly(self, request: Request, fault: Fault) -> Reply:
        if fault.kind in REPLACING:
            return make_replacement(fault)
        try:
            honest = self._dispatch(request, foreign=fault.kind == "foreign")
        except RefusedRequest as refusal:
            honest = refusal.reply
        return spoil(fault, honest, request.segments[-1].lower())

    def _dispatch(self, request: Request, *, foreign: bool = False) -> Reply:
        handlers = self._find_handlers(request.segments, foreign=foreign)
        if not handlers:
            return Reply.json({"detail": "Not Found"}, 404)
        if request.method not in handlers:
            return Reply.json({"detail": "Method Not Allowed"}, 405, Allow=", ".join(handlers))
        return handlers[request.method](request)

    def _find_handlers(self, segments: tuple[str, ...], *, foreign: bool) -> Mapping[str, Handler]:
        match segments:
            case ("entitlements", "customer", customer_id) if customer_id:
                return {"GET": partial(self._list_entitlements, foreign=foreign)}
            case ("usage", slug) if slug:
                return {"POST": self._post_usage}
            case ("_sandbox", "customers", customer_id) if customer_id:
                return {"GET": lambda _: self._list_rows(customer_id)}
        faults = {"GET": self._list_faults, "PUT": self._put_faults, "DELETE": self._delete_faults}
        routes: Mapping[tuple[str, ...], Mapping[str, Handler]] = {
            ("customers",): {"GET": self._list_customers},
            ("openapi.json",): {"GET": self._describe},
            ("_sandbox",): {"GET": self._summarise},
            ("_sandbox", "acts"): {"POST": self._post_act},
            ("_sandbox", "faults"): faults,
        }
        return routes.get(segments, {})

    def _authenticate(self, request: Request) -> None:
        key, organisation = request.header("x-api-key"), request.header("organisation") or ""
        if key != self.scenario.api_key or organisation.lower() != self.scenario.organisation:
            raise RefusedRequest(Reply.json({"Message": "Unauthorized"}, 401))

    def _list_entitlements(self, request: Request, *, foreign: bool) -> Reply:
        """List one customer's rows; other customers' where ``foreign``, which is a fault."""
        self._authenticate(request)
        try:
            customer_id = read_identifier(request.segments[-1], "customer_id")
        except ScenarioError:
            raise invalid(["path", "customer_id"], "value is not a valid uuid", "type_error.uuid") from None
        parameters = read_parameters(request, _PARAMETERS)
        populate = _read_populate(parameters)
        rows = _sort(self.rows_of_others(customer_id) if foreign else self.rows_of(customer_id), parameters)
        customer = self._customers.get(customer_id)
        if customer is None:
            read_limit(parameters)  # 422 goes before 404
            raise RefusedRequest(Reply.json({"detail": "Customer not found"}, 404))
        matches = [row for row in rows if _matches(row, parameters)]
        return Reply.json(cut_page(matches, parameters, customer_id, lambda row: render_row(row, populate, customer)))

    def _list_customers(self, request: Request) -> Reply:
        self._authenticate(request)
        parameters = read_parameters(request, ("external_id", "cursor", "limit"))
        external_id = parameters.get("external_id")
        customers = [customer for customer in self.customers if external_id in {None, customer.external_id}]
        return Reply.json(cut_page(customers, parameters, f"customers:{external_id}", _render_customer))

    def _post_usage(self, request: Request) -> Reply:
        self._authenticate(request)
        key = request.header("idempotency-key") or None
        return self._usage.post(request.segments[-1], request.body, key, self._clock.time())

    def _describe(self, _: Request) -> Reply:
        ids = [customer.id for customer in self.customers]
        return Reply.json(facts.openapi(ids, __version__))

    def _summarise(self, _: Request) -> Reply:
        customers = [
            {
                "id": customer.id,
                "name": customer.name,
                "external_id": customer.external_id,
                "rows": len(self.rows_of(customer.id)),
            }
            for customer in self.customers
        ]
        counts = {"requests": self.request_count, "usage_events": len(self.usage_events)}
        return Reply.json({"customers": customers, "faults": [fault.as_dict() for fault in self.faults], **counts})

    def _list_rows(self, customer_id: str) -> Reply:
        return Reply.json({"results": [row.fields for row in self.rows_of(customer_id.lower())]})

    def _post_act(self, request: Request) -> Reply:
        """Call the method that the body names, with the rest of the body as its arguments."""
        methods = (self.grant, self.revoke, self.use, self.expire, self.void, self.fail, self.recover)
        acts: dict[str, Callable[..., Any]] = {method.__name__: method for method in methods}
        try:
            arguments = dict(read_json(request.body))
            act = acts.get(str(arguments.pop("act", None)))
            if act is None:
                raise ScenarioError(f"act: expected one of {', '.join(acts)}")
            return Reply.json({"result": act(**arguments)})
        except (LookupError, TypeError, ValueError) as error:
            raise invalid(["body"], str(error), "value_error") from None

    def _list_faults(self, _: Request) -> Reply:
        return Reply.json([fault.as_dict() for fault in self.faults])

    def _put_faults(self, request: Request) -> Reply:
        try:
            self.faults.replace(parse_faults(read_json(request.body)))
        except ValueError as error:
            detail = str(error) if isinstance(error, ScenarioError) else "body is not valid JSON"
            raise invalid(["body"], detail, "value_error") from None
        return self._list_faults(request)

    def _delete_faults(self, request: Request) -> Reply:
        self.faults.clear()
        return self._list_faults(request)


_PARAMETERS = ("cursor", "limit", "sort_key", "sort_type", "search", "populate", "status")


def _read_populate(parameters: Mapping[str, str]) -> frozenset[str]:
    if "populate" not in parameters:
        return frozenset()
    kinds = frozenset(parameters["populate"].split(","))
    if not kinds <= frozenset(facts.POPULATES):
        raise invalid(["query", "populate"], "value is not a permitted value", "type_error.enum")
    return kinds


def _sort(rows: Sequence[BillingRow], parameters: Mapping[str, str]) -> Sequence[BillingRow]:
    """Order the rows: nulls last either way, equals in the order they were granted."""
    key = read_choice(parameters, "sort_key", facts.sort_keys(), "")
    is_descending = read_choice(parameters, "sort_type", facts.SORTS, "asc") == "desc"
    if not key:
        return rows
    nulls = [row for row in rows if row.fields[key] is None]
    others = [row for row in rows if row.fields[key] is not None]
    return sorted(others, key=lambda row: sort_key_of(row, key), reverse=is_descending) + nulls


def _matches(row: BillingRow, parameters: Mapping[str, str]) -> bool:
    """Whether a row passes ``status`` and ``search``; a null status passes no filter."""
    statuses = {status.strip().lower() for status in parameters.get("status", "").split(",")} - {""}
    has_name = parameters.get("search", "").casefold() in row.name.casefold()
    return has_name and (not statuses or row.status in statuses)


def _render_customer(customer: Customer) -> dict[str, Any]:
    return {name: getattr(customer, name) for name in ("id", "external_id", "name", "email")}

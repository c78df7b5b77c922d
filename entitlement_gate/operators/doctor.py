"""Find what keeps a gate from right answers: credentials, network, clock, limits, names, health, ledger.

It calls billing once, lists each customer that is named, and asks the ledger. A project's settings are looked at in
``project``.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from entitlement_gate.domain.errors import (
    AnswerTooLate,
    BodyTooLong,
    CredentialUnavailable,
    SourceError,
    SourceMalformed,
    TooManyPages,
)
from entitlement_gate.domain.rule import canonical_uuid
from entitlement_gate.ledger.protocol import examined
from entitlement_gate.operators.billing import fetch_all_grants
from entitlement_gate.operators.explanation import ask_did_you_mean, find_nearest
from entitlement_gate.operators.terminal import DENIED, FINE, Cell, Line, Report, Table
from entitlement_gate.zenskar.client_options import SANDBOX
from entitlement_gate.zenskar.parsing import read_error, read_json, read_page
from entitlement_gate.zenskar.retry import Reply

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from entitlement_gate.engine.gate import EntitlementGate
    from entitlement_gate.operators.terminal import Tone
    from entitlement_gate.resilience.clock import Clock
    from entitlement_gate.zenskar.client import ZenskarClient

__all__ = ["Finding", "NameInCode", "examine", "find_ledger_problems", "find_redis_problems", "report_findings"]

_TONES: dict[str, Tone] = {"ok": "good", "note": "faint", "warning": "warning", "error": "bad"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: ``ok``; ``note`` for what could not be looked at; ``warning`` and ``error`` want something done.
        about: what was looked at.
        text: what was found.
        hint: what to do.
        id: of a system check.
    """

    level: Literal["ok", "note", "warning", "error"]
    about: str
    text: str
    hint: str = ""
    id: str | None = None

    @property
    def is_problem(self) -> bool:
        """Whether something is to be done."""
        return self.level in {"warning", "error"}


def report_findings(findings: Iterable[Finding]) -> Report:
    """Report the findings; problems make the exit code 1."""
    findings = tuple(findings)
    problems = sum(finding.is_problem for finding in findings)
    summary = f"{problems} problem{'s' if problems != 1 else ''}" if problems else "no problems"
    rows = tuple(row for finding in findings for row in _make_rows(finding))
    return Report(
        exit_code=DENIED if problems else FINE,
        data={"problems": problems, "findings": [asdict(finding) for finding in findings]},
        parts=(Table(("", "ABOUT", "FOUND, AND WHAT TO DO"), rows), Line(summary, "bad" if problems else "good")),
    )


def _make_rows(finding: Finding) -> Iterator[tuple[Cell | str, ...]]:
    text = f"{finding.text} ({finding.id})" if finding.id else finding.text
    yield Cell(finding.level, _TONES[finding.level]), finding.about, text
    if finding.hint:
        yield "", "", f"-> {finding.hint}"


_NOBODY = "00000000-0000-4000-8000-000000000000"
_OK, _NOT_FOUND = 200, 404
_CREDENTIALS, _PARAMETERS = (401, 403), (400, 422)
_REDIRECTS = range(300, 400)
_OURS_TO_FIX = frozenset(range(400, 500)) - {408, 425, 429}
_CLOCK_SECONDS = 5.0  # `Date` has whole seconds, and a call takes some
_MOST = 0.8  # of a limit
_LIST_HINT = "Check that BASE_URL is billing itself and no cache in front of it; ask Zenskar's support with this line."
_BYTES_HINT = "Raise MAX_BODY_BYTES."
_LIMIT_HINTS = {TooManyPages: "Raise MAX_PAGES or PAGE_SIZE.", BodyTooLong: _BYTES_HINT}
_BASE_URL_HINT = "Set BASE_URL to the billing API, such as https://api.zenskar.com, with no path."


@dataclass(frozen=True, slots=True)
class NameInCode:
    """An entitlement that code asks for, and where."""

    name: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class _Call:
    """One call to billing.

    Attributes:
        reply: of any status.
        at: POSIX seconds by the clock of this machine, half-way through the call.
        seconds: how long it took.
    """

    reply: Reply
    at: float
    seconds: float


def _call_billing(client: ZenskarClient, customer_id: str, clock: Clock = time) -> _Call:
    """List the customer's entitlements once: one page as large as a gate's, without retries.

    Raises:
        SourceError: no answer came, a credential cannot be had, or the body is longer than ``MAX_BODY_BYTES``.
    """
    options = client.options
    statuses = ",".join(options.status_filter or ())
    params = {"limit": str(options.page_size), **({"status": statuses} if statuses else {})}
    began, wall = clock.monotonic(), clock.time()
    reply = client.get(f"entitlements/customer/{customer_id}", params)
    seconds = clock.monotonic() - began
    return _Call(reply, wall + seconds / 2, seconds)


def examine(
    gate: EntitlementGate, customers: Sequence[str] = (), names: Iterable[NameInCode] = ()
) -> Iterator[Finding]:
    """Yield what is found; a first call that fails is the last.

    Args:
        gate: whose source is examined.
        customers: canonical ids, whose listings are compared with limits and names.
        names: what code asks for.
    """
    from entitlement_gate.zenskar.client import ZenskarClient  # noqa: PLC0415 - httpx costs 100 ms: on use only

    client = gate.source
    if not isinstance(client, ZenskarClient):
        yield Finding("note", "source", f"{type(client).__name__} is no ZenskarClient: billing is not looked at")
        return
    if client.options.base_url.startswith(SANDBOX):
        yield Finding("note", "reachability", "billing is the bundled sandbox, in this process")
    yield from _check_statuses(client)
    findings = list(_check_call(client, *customers[:1]))
    yield from findings
    if not any(finding.level == "error" for finding in findings):
        yield from _check_listings(client, customers)
        yield from _check_names(gate, customers, tuple(names))
    yield _check_health(gate)


def _check_statuses(client: ZenskarClient) -> Iterator[Finding]:
    """Warn of statuses that no row has: billing lists nothing for them, and everybody is refused."""
    from entitlement_gate.zenskar.models import EntitlementStatus  # noqa: PLC0415 - pydantic costs 100 ms: on use only

    statuses = tuple(map(str, EntitlementStatus))
    for status in client.options.status_filter or ():
        if status not in statuses:
            hint = ask_did_you_mean(find_nearest(status, statuses)) or f"There are {', '.join(statuses)}."
            yield Finding("warning", "parameters", f"STATUS_FILTER asks for {status!r}, which no row has", hint)


def _check_call(client: ZenskarClient, customer: str = "") -> Iterator[Finding]:
    """Judge one bare call."""
    try:
        call = _call_billing(client, customer or _NOBODY)
    except SourceMalformed as error:
        is_long = isinstance(error, BodyTooLong)
        about, hint = ("limits", _BYTES_HINT) if is_long else ("reachability", _BASE_URL_HINT)
        yield Finding("error", about, str(error), hint)
        return
    except SourceError as error:
        yield _explain_failure(client, error)
        return
    yield _judge_reply(call.reply, customer)
    yield from _check_latency(client, call)
    yield from _check_clock(call)
    if len(call.reply.body) > client.options.max_body_bytes * _MOST:
        text = f"a page of {len(call.reply.body)} bytes, of MAX_BODY_BYTES {client.options.max_body_bytes}"
        yield Finding("warning", "limits", text, "Raise MAX_BODY_BYTES or lower PAGE_SIZE: a longer page fails.")


def _explain_failure(client: ZenskarClient, error: SourceError) -> Finding:
    if isinstance(error, CredentialUnavailable):
        return Finding("error", "credentials", str(error), "Correct the credentials.")
    hint = "Check BASE_URL, name resolution, firewall and TLS: from this machine nothing answers there."
    if isinstance(error, AnswerTooLate):
        hint = "Check BASE_URL, firewall and proxy; if billing is merely slow, raise CONNECT_TIMEOUT and DEADLINE."
    return Finding("error", "reachability", f"{client.options.base_url}: {error}", hint)


def _judge_reply(reply: Reply, customer: str) -> Finding:
    if reply.status == _NOT_FOUND:
        return _judge_not_found(reply, customer)
    if reply.status != _OK:
        return _explain_refusal(reply)
    try:
        read_page(reply.body)
    except SourceMalformed as error:
        return Finding("error", "reachability", f"something answers that is not billing: {error}", _BASE_URL_HINT)
    return Finding("ok", "credentials", "billing accepts them")


def _explain_refusal(reply: Reply) -> Finding:
    status, answer = reply.status, f"HTTP {reply.status} {read_error(reply.body)}".rstrip()
    if status in _CREDENTIALS:
        hint = "Check API_KEY and ORGANISATION: both belong to the same account and environment."
        return Finding("error", "credentials", f"billing refuses them: {answer}", hint)
    if status in _PARAMETERS:
        hint = "Check API_VERSION, STATUS_FILTER and PAGE_SIZE."
        return Finding("error", "parameters", f"billing refuses them: {answer}", hint)
    if status in _REDIRECTS:
        where = reply.headers.get("location", "nowhere")
        return Finding("error", "reachability", f"redirected (HTTP {status}) to {where}", _BASE_URL_HINT)
    if status in _OURS_TO_FIX:
        hint = "Check BASE_URL and API_VERSION; if they are right, ask Zenskar's support."
        return Finding("error", "parameters", f"billing refuses the call: {answer}", hint)
    hint = "Wait and run this again; if it lasts, ask Zenskar's support."
    return Finding("error", "reachability", f"billing answers {answer}", hint)


def _judge_not_found(reply: Reply, customer: str) -> Finding:
    try:
        is_api = isinstance(read_json(reply.body), dict)
    except SourceMalformed:
        is_api = False
    if not is_api:
        return Finding(
            "error", "reachability", "something answers that is not billing: HTTP 404, no JSON", _BASE_URL_HINT
        )
    if customer:
        hint = "Check the id, and that ORGANISATION and BASE_URL are of the environment it was made in."
        return Finding("error", "customer", f"billing does not know {customer}", hint)
    return Finding("ok", "credentials", "billing accepts them (and does not know a customer made up for this)")


def _check_latency(client: ZenskarClient, call: _Call) -> Iterator[Finding]:
    deadline = client.options.deadline
    text = f"one call took {call.seconds:.2f} s; a check waits {deadline:g} s at most"
    if call.seconds > deadline / 2:
        yield Finding("warning", "reachability", text, "Raise DEADLINE, or run nearer to billing.")
    else:
        yield Finding("ok", "reachability", text)


def _check_clock(call: _Call) -> Iterator[Finding]:
    try:
        theirs = parsedate_to_datetime(call.reply.headers.get("date", "")).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        yield Finding("note", "clock", "billing's answer has no Date to compare with")
        return
    ahead = call.at - theirs
    if abs(ahead) <= _CLOCK_SECONDS:
        yield Finding("ok", "clock", "agrees with billing's")
        return
    text = f"this machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} billing's"
    yield Finding("warning", "clock", text, "Synchronise it (NTP): grants would start and end at the wrong time.")


def _check_listings(client: ZenskarClient, customers: Sequence[str]) -> Iterator[Finding]:
    most = client.options.page_size * client.options.max_pages
    for customer in customers:
        try:
            rows = len(client.fetch(customer).grants)
        except SourceError as error:
            hint = next((hint for kind, hint in _LIMIT_HINTS.items() if isinstance(error, kind)), _LIST_HINT)
            yield Finding("error", "limits", f"{customer}: {type(error).__name__}: {error}", hint)
            continue
        text = f"{customer}: {rows} rows, of {most} that PAGE_SIZE times MAX_PAGES let in"
        if rows >= most * _MOST:
            yield Finding("warning", "limits", text, "Raise MAX_PAGES: beyond it every check of the customer fails.")
        else:
            yield Finding("ok", "limits", text)


def _check_names(gate: EntitlementGate, customers: Sequence[str], names: tuple[NameInCode, ...]) -> Iterator[Finding]:
    if not names:
        yield Finding("note", "names", "no names in code to compare with what billing lists")
        return
    if not customers:
        hint = "Give the ids of customers that together hold every entitlement."
        yield Finding("note", "names", "not compared with what billing lists: no customer was given", hint)
        return
    billing_names: set[str] = set()
    for customer in customers:
        try:
            grants = fetch_all_grants(gate.source, customer)
        except SourceError:
            hint = "Mend what is said of the customer's list above."
            yield Finding("note", "names", f"not compared with what billing lists: {customer} cannot be read", hint)
            return
        billing_names |= {text for grant in grants for text in (grant.name, grant.entitlement_id or "")}
    missing = list(_find_missing(gate, names, billing_names))
    yield from missing or [Finding("ok", "names", f"billing lists all {len({each.name for each in names})} names")]


def _find_missing(gate: EntitlementGate, names: tuple[NameInCode, ...], billing_names: set[str]) -> Iterator[Finding]:
    aliases = gate.options.aliases
    for name in dict.fromkeys(each.name for each in names):
        target = aliases.get(name, name)
        if (canonical_uuid(target) or target) in billing_names:
            continue
        places = sorted({each.where for each in names if each.name == name and each.where})
        near = find_nearest(target, (other for other in billing_names if other and not canonical_uuid(other)))
        alias = f" (an alias of {target!r})" if target != name else ""
        hint = ask_did_you_mean(near) or "Create it in billing, correct the name, or map it in ALIASES."
        yield Finding(
            "warning", "names", f"billing lists no {name!r}{alias}; asked at {', '.join(places) or '?'}", hint
        )


def _check_health(gate: EntitlementGate) -> Finding:
    health = gate.health()
    text = f"breaker {health['breaker']}, {health['customers']} customers held in this process"
    if health["breaker"] == "closed":
        return Finding("ok", "health", text)
    return Finding(
        "warning", "health", f"{text}; last failure: {health['last_failure']}", "Fetches keep failing: see above."
    )


_WORKERS = "WEB_CONCURRENCY"
_PATIENCE = 1.0  # seconds
_LONG_WAIT = 900.0  # seconds that an event waits where something ships
_MANY_EVENTS = 1_000  # events that wait, where nobody knows how long
_SHIP = "Let `manage.py entitlements ship` run regularly, or with --watch; see the guide to shipping usage."
_SILENT_HINT = "See for yourself that it has maxmemory-policy noeviction and appendonly yes."
_OUT_OF_REACH = {
    "redis": "Check REDIS_URL, its password, firewall and TLS, and that the server runs.",
    "database": "Check DATABASES and that the server runs.",
}


def find_ledger_problems(gate: EntitlementGate) -> Iterator[Finding]:
    """Yield what is found in the gate's ledger."""
    ledger: Any = gate.ledger
    if ledger is None:
        yield Finding("note", "ledger", "LEDGER is None: nothing is used up here")
    elif not hasattr(ledger, "health"):
        yield Finding("note", "ledger", f"{type(ledger).__name__} has no health() to ask")
    else:
        yield from _judge_ledger(ledger.health())


def find_redis_problems(url: str | None) -> Iterator[Finding]:
    """Yield whether the Redis of ``REDIS_URL`` answers; of a ledger ``find_ledger_problems`` says more."""
    if url is None:
        return
    parts = urlsplit(url)
    where = f"{parts.hostname}:{parts.port or 6379}" if parts.hostname else "its socket"
    try:
        redis = import_module("redis")
    except ImportError:
        text = "REDIS_URL is set, but the package redis is not installed"
        yield Finding("error", "redis", text, "Install entitlement_gate[redis].")
        return

    def look(_: dict[str, Any]) -> None:
        with redis.Redis.from_url(url, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE) as client:
            client.ping()

    error = examined("redis", look).get("error")
    if error:
        yield Finding("error", "redis", f"REDIS_URL ({where}) does not answer: {error}", _OUT_OF_REACH["redis"])
    else:
        yield Finding("ok", "redis", f"REDIS_URL ({where}) answers")


def _judge_ledger(health: Mapping[str, Any]) -> Iterator[Finding]:
    store = health["store"]
    if not health["reachable"] or health.get("error"):
        text = f"the ledger ({store}) does not answer: {health.get('error')}"
        yield Finding("error", "ledger", text, _OUT_OF_REACH.get(store, "Check that it runs."))
        return
    findings = [*_check_sharing(store), *_check_durability(health), *_check_state(health)]
    yield from findings or [Finding("ok", "ledger", f"{store}: answers")]
    yield from _check_outbox(health)


def _check_sharing(store: str) -> Iterator[Finding]:
    workers = os.environ.get(_WORKERS, "")
    if store == "memory" and workers.isdecimal() and int(workers) > 1:
        text = f"LEDGER is 'memory', and {_WORKERS} asks for {workers} processes: each counts for itself"
        yield Finding("warning", "ledger", text, "Set LEDGER to 'redis' or 'database'.")


def _check_durability(health: Mapping[str, Any]) -> Iterator[Finding]:
    """Judge how a Redis keeps what must not be lost."""
    policy = health.get("maxmemory_policy")
    if "maxmemory_policy" in health and policy is None:
        yield Finding("note", "ledger", "this Redis does not say how it keeps: INFO is refused", _SILENT_HINT)
    if policy not in (None, "noeviction"):
        text = f"this Redis forgets when memory is short (maxmemory-policy {policy}): the ledger refuses it"
        hint = "Set maxmemory-policy noeviction, or give the ledger a server of its own."
        yield Finding("error", "ledger", text, hint)
    if health.get("appendonly") is False:
        text = "this Redis does not write down what it acknowledges (appendonly no): a restart loses what was used up"
        yield Finding("warning", "ledger", text, "Set appendonly yes.")


def _check_state(health: Mapping[str, Any]) -> Iterator[Finding]:
    if health.get("lost"):
        text = "this Redis lost what it held: the ledger admits nothing"
        hint = "Restore it; or, to go on with what is left, call default_gate().ledger.accept_loss()."
        yield Finding("error", "ledger", text, hint)
    if health.get("migrated") is False:
        text = "the tables of the ledger are not in the database as they should be"
        yield Finding("error", "ledger", text, "Run `manage.py migrate entitlement_usage`.")


def _check_outbox(health: Mapping[str, Any]) -> Iterator[Finding]:
    dead, pending, oldest = health.get("dead_letters"), health.get("pending"), health.get("oldest_age")
    if dead:
        text = f"{_count_events(dead)} set aside: billing refused"
        yield Finding("warning", "outbox", text, "`manage.py entitlements ship --dead` says why.")
    if not pending:
        return
    text = f"{_count_events(pending)} to be delivered" + ("" if oldest is None else f", the oldest for {oldest:.0f} s")
    is_stuck = pending >= _MANY_EVENTS if oldest is None else oldest >= _LONG_WAIT
    yield Finding("warning" if is_stuck else "note", "outbox", text, _SHIP)


def _count_events(number: int) -> str:
    return f"{number} usage event{'s' if number != 1 else ''}"

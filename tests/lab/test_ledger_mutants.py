"""Stores that were made wrong by hand: the contract finds each one out."""

import sys
import types
import uuid
from functools import partial
from pathlib import Path

import pytest

from entitlement_gate.ledger import balances, book, redis_client
from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.ledger.redis import RedisLedger
from entitlement_gate.resilience.redis_connection import read_lua
from tests.ledger.clocks import pass_time_in_redis
from tests.ledger.conftest import redis_url  # noqa: F401 - a fixture
from tests.ledger.mutating import first_failure, mutated
from tests.usage.conftest import postgres, postgres_alias, sqlite_alias, usage_app  # noqa: F401 - fixtures
from tests.usage.test_ledger import DatabaseContract, emptied

# The part of a script, what stands there, and what stands there instead.
LUA = [
    ("book", "if bound and bound <= now then", "if false then"),
    ("book", "if not bound or until_ < bound then", "if not bound then"),
    ("book", "if is_swept or next(changed) or next(touched) then", "if next(touched) then"),
    ("book", "add(record[SHARES], HELD, -1)\n      settle", "settle"),
    ("book", "records[key], touched[key] = false, true", ""),
    ("book", "if #keys == SWEPT_AT_ONCE then fail('more') end", ""),
    ("book", "redis.call('HDEL', HOLDS, key)", ""),
    ("book", "record[IS_LONE] and LONE_RETENTION or RETENTION", "RETENTION"),
    ("book", "sign * shares[index + 2]", "sign"),
    ("reserve", "tally[HELD], changed[field] = tally[HELD] + amount, true", "changed[field] = true"),
    ("reserve", "if left < demand[QUANTITY] then", "if left <= demand[QUANTITY] then"),
    ("reserve", "if left < demand[QUANTITY] then", "if left + 1 < demand[QUANTITY] then"),
    ("reserve", "if not is_same(record, is_taken) then fail('conflict') end", ""),
    ("reserve", "if asked.purpose ~= '' and record[PURPOSE] == asked.purpose then return true end", ""),
    ("reserve", "record[STATE] == 'held' or record[STATE] == 'committed'", "record[STATE] == 'held'"),
    ("reserve", "math.max(0, row[REMAINING] - burden(rows, index, index))", "row[REMAINING]"),
    ("reserve", "is_overage = true", ""),
    ("reserve", "if not demand[MAY_OVERDRAW] and not refusal then", "if not refusal then"),
    ("reserve", "text(now + asked.ttl)", "text(now)"),
    ("book", "return held + math.max(0, -surplus)", "return held - surplus"),
    ("book", "return held + math.max(0, -surplus)", "return math.max(0, -surplus)"),
    ("book", "local back = caught + tally[REFUNDED]", "local back = caught"),
    ("book", "tally[TICKET] < ticket or tally[TICKET] > now + CLOCK_SKEW", "true"),
    ("book", "return ticket > now + CLOCK_SKEW and now or ticket", "return ticket"),
    ("book", "if not is_charged then tally[BASELINE], tally[REFUNDED] = used, 0 end", ""),
    ("book", "tally[REFUNDED] = tally[REFUNDED] - taken", ""),
    ("book", "math.max(0, tally[SEEN] - used)", "0"),
    ("news", "if tally[HELD] == 0 and tally[TICKET] < oldest", "if tally[HELD] == 0"),
    ("news", "if tally[HELD] == 0 and tally[TICKET] < oldest", "if false"),
    ("settle", "    add(record[SHARES], HELD, -1)\n  else", "  else"),
    ("settle", "add(record[SHARES], COMMITTED, 1)", ""),
    ("settle", "if actual then record[SHARES] = reshare(record[SHARES], actual) end", ""),
    ("settle", "if actual and #record[WANTS] > 4 then fail('several') end", ""),
    ("settle", "if actual and actual ~= total(record[SHARES]) then fail('conflict') end", ""),
    ("settle", "if not asked.late then fail(record[STATE]) end", ""),
    ("settle", "record[IS_LATE] = true", ""),
    ("settle", "local is_owner = record[OWNER] == asked.owner", "local is_owner = true"),
    ("settle", "if is_owner and record", "if record"),
    ("settle", "#shipping == 1 and asked.key or asked.key .. '/' .. entitlement", "asked.key"),
    ("settle", "total(record[SHARES], entitlement)", "total(record[SHARES])"),
    ("settle", "settle(asked.key, record, 'released')", ""),
    ("settle", "if is_owner and record[STATE] == 'committed' then fail('committed') end", ""),
    ("reserve", "{ asked.owner, asked", "{ '', asked"),
    ("settle", "record[UNTIL] = record[EXPIRES]", ""),
    ("outbox", "redis.call('ZADD', DUE, at(now + asked.seconds), id)", ""),
    ("outbox", "event.a = at(event.a + 1)", ""),
    ("outbox", "redis.call('ZADD', DUE, 'XX',", "redis.call('ZADD', DUE,"),
]


@pytest.fixture
def scripts_from(monkeypatch):
    """Let scripts be put together from files that a function gives."""

    def put(read):
        monkeypatch.setattr(redis_client, "read_lua", lambda _, *names: "\n".join(map(read, names)))
        redis_client.load_script.cache_clear()

    yield put
    monkeypatch.undo()
    redis_client.load_script.cache_clear()


@pytest.mark.parametrize("mutant", LUA, ids=" | ".join)
def test_a_wrong_script_is_found_out(redis_url, scripts_from, mutant):  # noqa: F811 - the fixture
    part, before, after = mutant
    right = partial(read_lua, "entitlement_gate.ledger")
    wrong = mutated(right(part), before, after)
    scripts_from(lambda name: wrong if name == part else right(name))
    assert first_failure(lambda: RedisLedger(redis_url, prefix=uuid.uuid4().hex), pass_time)


def pass_time(ledger, seconds):
    pass_time_in_redis(ledger, seconds)


SHELF = [
    ("_RECORD", '"key" = %s', '"key" <> %s'),
    ("_ALL_RUN_OUT", "until <= {now}", "until > {now}"),
    ("_LET_RUN_OUT", "state = 'expired'", "state = 'held'"),
    ("_LET_RUN_OUT", "until = %s", "until = 0 * %s"),
    ("_FORGET", "until <= %s", "until > %s"),
    ("_PUT_RECORD", "is_lone = excluded.is_lone", "is_lone = FALSE"),
    ("_RUN_OUT", "state = 'held' AND", "state = 'expired' AND"),
    ("_RUN_OUT", "until <= {now}", "until > {now}"),
    ("_PUT_TALLY", "held = excluded.held", "held = 0"),
    ("_PUT_TALLY", "committed = excluded.committed", "committed = 0"),
    ("_PUT_TALLY", "refunded = excluded.refunded, ", ""),
    ("_PUT_TALLY", "seen = excluded.seen, ", ""),
    ("_PUT_TALLY", "ticket = excluded.ticket", "ticket = 0"),
    ("_PUT_TALLY", "baseline = excluded.baseline, ", ""),
    ("_DROP_TALLY", "row_id = %s", "row_id <> %s"),
    ("_PUT_RECORD", "shares = excluded.shares, ", ""),
    ("_PUT_RECORD", "state = excluded.state, ", ""),
    ("_PUT_RECORD", "until = excluded.until, ", ""),
    ("_PUT_RECORD", "is_late = excluded.is_late", "is_late = FALSE"),
    ("_PUT_RECORD", ", owner = excluded.owner", ""),
    ("_LOCK", "{now}", "0.0"),
]


@pytest.mark.parametrize("mutant", SHELF, ids=" | ".join)
def test_a_wrong_statement_is_found_out(sqlite_alias, monkeypatch, mutant):  # noqa: F811 - the fixture
    from entitlement_gate.usage import ledger

    name, before, after = mutant
    monkeypatch.setattr(ledger, name, mutated(getattr(ledger, name), before, after))
    assert first_failure(lambda: emptied(sqlite_alias), DatabaseContract().pass_time)


PYTHON = [
    (book, "if remaining < demand.quantity:", "if remaining <= demand.quantity:"),
    (book, "is_taken = record.state in (State.HELD, State.COMMITTED)", "is_taken = record.state is State.HELD"),
    (book, "bool(purpose) and record.purpose == purpose", "record.purpose == purpose"),
    (book, "bool(purpose) and record.purpose == purpose", "False"),
    (book, "0 if is_taken else 1", "1"),
    (book, "0 if is_taken else 1", "0"),
    (book, "        self._hold(shares, 1)\n", ""),
    (book, "record.is_late = True", "pass"),
    (book, "is_owner = record.owner == owner", "is_owner = True"),
    (book, "LONE_RETENTION if record.is_lone else RETENTION", "RETENTION"),
    (book, "if is_owner and record.state is State.COMMITTED:", "if record.state is State.COMMITTED:"),
    (book, "is_overage, owner=owner, purpose", "is_overage, purpose"),
    (book, "elif shares is not record.shares:", "else:"),
    (book, "was_held=shares is record.shares and record.state is State.HELD", "was_held=False"),
    (
        book,
        "            self._hold(record.shares, -1)\n            self._settle(record, State.EXPIRED",
        "            self._settle(record, State.EXPIRED",
    ),
    (book, "if not tally.held and tally.ticket < oldest", "if tally.ticket < oldest + 10**15"),
    (balances, "return held + max(0, uncaught)", "return held + uncaught"),
    (balances, "amount = min(quantity, max(0, available((row,), tallies)))", "amount = min(quantity, row.remaining)"),
    (balances, "amount = actual if is_last else min(actual, share.amount)", "amount = min(actual, share.amount)"),
    (balances, "tally.ticket < ticket", "tally.ticket <= ticket + 10**9"),
    (book, "ticket_of(now if ticket > now + CLOCK_SKEW else ticket)", "ticket_of(ticket)"),
    (balances, "if not any(tally.committed for tally in latest):", "if False:"),
    (balances, "reversal = max(0, min(tally.refunded, surplus))", "reversal = 0"),
    (balances, "return tally.refunded + max(0, tally.seen - row.used)", "return tally.refunded"),
]


@pytest.mark.parametrize("mutant", PYTHON, ids=lambda mutant: " | ".join(mutant[1:]))
def test_a_wrong_rule_is_found_out(monkeypatch, mutant):
    module, before, after = mutant
    monkeypatch.setitem(sys.modules, "wrong", wrong := types.ModuleType("wrong"))  # dataclasses look there
    exec(mutated(Path(module.__file__).read_text("utf-8"), before, after), wrong.__dict__)
    if module is balances:
        for name in ("adopt", "allocate", "available", "reshare"):
            monkeypatch.setattr(book, name, getattr(wrong, name))
        monkeypatch.setattr("entitlement_gate.testing.ledger_contract.available", balances.available)
    else:
        wrong_verbs = {name: value for name, value in vars(wrong.Book).items() if isinstance(value, types.FunctionType)}
        for name, verb in wrong_verbs.items():
            monkeypatch.setattr(book.Book, name, verb)
    assert first_failure(Hands.make_ledger, Hands.pass_time)


class Hands:
    def __init__(self):
        self.now = 1_800_000_000.0

    def time(self):
        return self.now

    @classmethod
    def make_ledger(cls):
        hands = cls()
        ledger = MemoryLedger(clock=hands)
        ledger.hands = hands
        return ledger

    @staticmethod
    def pass_time(ledger, seconds):
        ledger.hands.now += seconds


def test_the_right_scripts_are_not_found_fault_with(redis_url):  # noqa: F811 - the fixture
    assert first_failure(lambda: RedisLedger(redis_url, prefix=uuid.uuid4().hex), pass_time) is None


@pytest.mark.parametrize("fixture", ["sqlite_alias", "postgres_alias"])
def test_the_right_statements_are_not_found_fault_with(request, fixture):
    alias = request.getfixturevalue(fixture)
    assert first_failure(lambda: emptied(alias), DatabaseContract().pass_time) is None


def test_the_right_rules_are_not_found_fault_with():
    assert first_failure(Hands.make_ledger, Hands.pass_time) is None

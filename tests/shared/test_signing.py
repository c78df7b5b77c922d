import pickle

import pytest

from entitlement_gate.domain.errors import SourceUnavailable
from entitlement_gate.shared.records import Seal, joined
from entitlement_gate.zenskar.client import ZenskarClient

KEY, ORGANISATION = "the-api-key", "the-organisation"


def client(**options):
    made = {"api_key": KEY, "organisation": ORGANISATION, **options}
    return ZenskarClient(made.pop("api_key"), made.pop("organisation"), **made)


def test_what_one_signs_another_with_the_same_secret_finds_genuine():
    assert Seal(KEY, "a").is_genuine(b"text", Seal(KEY, "b").sign(b"text"))


@pytest.mark.parametrize(("text", "signer"), [(b"text", Seal("other")), (b"text.", Seal(KEY))])
def test_another_key_or_another_text_is_not(text, signer):
    assert not Seal(KEY).is_genuine(b"text", signer.sign(text))


def test_no_two_lists_of_parts_are_joined_to_the_same():
    assert len({joined("ab", "c"), joined("a", "bc"), joined("abc"), joined("a", "b", "c"), joined("1:ab", "c")}) == 5


def test_a_seal_shows_and_gives_away_nothing():
    seal = Seal(KEY, ORGANISATION)
    assert KEY not in f"{seal!r}{seal.scope}"
    assert ORGANISATION not in f"{seal!r}{seal.scope}"
    with pytest.raises(TypeError):
        pickle.dumps(seal)


def test_a_client_has_the_seal_of_its_key_and_scope():
    text = client().seal().sign(b"text")
    assert client().seal().is_genuine(b"text", text)
    assert not client(api_key="another").seal().is_genuine(b"text", text)
    assert client().seal().scope == client(api_key="another").seal().scope


@pytest.mark.parametrize(
    "options",
    [
        {"organisation": "another"},
        {"base_url": "https://billing.example"},
        {"api_version": "20990101"},
        {"status_filter": None},
        {"status_filter": ("active", "expired")},
    ],
)
def test_whatever_changes_the_answer_changes_the_scope(options):
    assert client(**options).seal().scope != client().seal().scope


def test_the_order_of_statuses_does_not():
    scopes = {client(status_filter=order).seal().scope for order in (("active", "expired"), ("expired", "active"))}
    assert len(scopes) == 1


def test_credentials_are_read_at_each_call():
    keys = iter(("first", "second"))
    changing = client(api_key=lambda: next(keys))
    assert changing.seal().sign(b"") != changing.seal().sign(b"")


def test_a_callable_that_fails_quotes_no_secret():
    def broken():
        raise RuntimeError(KEY)

    with pytest.raises(SourceUnavailable) as error:
        client(organisation=broken).seal()
    assert KEY not in str(error.value)

"""The list of customers, page after page, as ids. Never here: sending; what a customer holds.

Billing documents this listing less strictly than the others: ``results`` whose rows have an ``id`` that is a UUID,
and a cursor in ``next``, are all that is relied on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from entitlement_gate.domain.errors import CustomerNotFound, SourceMalformed, SourceRejected
from entitlement_gate.domain.rule import canonical_uuid
from entitlement_gate.zenskar.wire import read_page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from entitlement_gate.zenskar.wire import WirePage

    Ask = Callable[[Mapping[str, str]], bytes]

__all__ = ["all_customers"]

_MOST_PAGES = 100_000  # beyond it the other side makes cursors up


def all_customers(ask: Ask, page_size: int) -> Iterator[str]:
    """Yield every id in canonical form; asks for a page when its first id is wanted.

    Args:
        ask: returns the body of a page.
        page_size: rows a page.

    Raises:
        SourceError: see ``domain.errors``; raised as the ids are iterated.
    """
    params, asked = {"limit": str(page_size)}, set[str]()
    for _ in range(_MOST_PAGES):
        page = _page(ask, params)
        yield from map(_id_of, page.rows)
        if page.next is None:
            return
        if page.next in asked:
            raise SourceMalformed("billing repeats a cursor in the list of customers")
        asked.add(page.next)
        params = {**params, "cursor": page.next}
    raise SourceMalformed(f"the list of customers has more than {_MOST_PAGES} pages")


def _page(ask: Ask, params: Mapping[str, str]) -> WirePage:
    try:
        return read_page(ask(params))
    except CustomerNotFound:
        raise SourceRejected(404, "billing offers no list of customers here") from None
    except SourceMalformed as error:
        raise SourceMalformed(f"the list of customers: {error}") from None


def _id_of(row: Any) -> str:
    found = row.get("id") if isinstance(row, dict) else None
    customer = canonical_uuid(found) if isinstance(found, str) else None
    if customer is None:
        raise SourceMalformed("a row in the list of customers has no id that is a UUID")
    return customer

"""Pages into whole lists: all of them or an error, because a part of an answer is no answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from entitlement_gate.domain.errors import CustomerNotFound, SourceMalformed, SourceRejected, TooManyPages
from entitlement_gate.domain.rule import canonical_uuid
from entitlement_gate.zenskar.parsing import read_page
from entitlement_gate.zenskar.retry import get_reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from entitlement_gate.zenskar.retry import Flow, Retries

__all__ = ["all_customers", "all_rows"]

_MOST_PAGES = 100_000  # of customers: beyond it the other side makes cursors up


class _Pager:
    """Follows the cursors of one list.

    Attributes:
        params: of the query for the next page; None after the last.
        is_first: no page was read yet.
    """

    def __init__(self, params: Mapping[str, str], max_pages: int) -> None:
        self.params: Mapping[str, str] | None = params
        self.is_first = True
        self._first = params
        self._max_pages = max_pages
        self._cursors: set[str] = set()

    def read(self, body: bytes) -> list[Any]:
        """Return the rows of a page, and go on to the next one.

        Raises:
            SourceMalformed: it is no page, or there is no end to them.
        """
        page = read_page(body)
        self.is_first = False
        if page.next is None:
            self.params = None
            return page.rows
        if page.next in self._cursors:
            raise SourceMalformed("billing repeats a cursor")
        self._cursors.add(page.next)
        if len(self._cursors) >= self._max_pages:
            raise TooManyPages(f"more than {self._max_pages} pages")
        self.params = {**self._first, "cursor": page.next}
        return page.rows


def all_rows(params: Mapping[str, str], retries: Retries, max_pages: int) -> Flow:
    """Return the rows of all pages of a customer.

    Raises:
        SourceError: see ``domain.errors``.
    """
    pager, rows = _Pager(params, max_pages), list[Any]()
    while pager.params is not None:
        try:
            reply = yield from get_reply(pager.params, retries)
        except CustomerNotFound:
            if pager.is_first:
                raise
            raise SourceMalformed("HTTP 404 on a later page") from None
        rows += pager.read(reply.body)
    return rows


def all_customers(ask: Callable[[Mapping[str, str]], bytes], page_size: int) -> Iterator[str]:
    """Yield every customer's id in canonical form; asks for a page when its first id is wanted.

    Args:
        ask: returns the body of a page.
        page_size: rows a page.

    Raises:
        SourceError: see ``domain.errors``; raised as the ids are iterated.
    """
    pager = _Pager({"limit": str(page_size)}, _MOST_PAGES)
    while pager.params is not None:
        try:
            rows = pager.read(ask(pager.params))
        except CustomerNotFound:
            raise SourceRejected(404, "billing offers no list of customers here") from None
        except SourceMalformed as error:
            raise SourceMalformed(f"the list of customers: {error}") from None
        yield from map(_id_of, rows)


def _id_of(row: Any) -> str:
    row_id = row.get("id") if isinstance(row, dict) else None
    customer = canonical_uuid(row_id) if isinstance(row_id, str) else None
    if customer is None:
        raise SourceMalformed("a row in the list of customers has no id that is a UUID")
    return customer

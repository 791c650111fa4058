"""Lists in pages, as one iterable."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from retire_cluster.sdk.calls import Calls, get, read
from retire_cluster.sdk.decoding import Model
from retire_cluster.sdk.errors import UnexpectedAnswer

M = TypeVar("M", bound=Model)
LARGEST_PAGE = 100


@dataclass(frozen=True)
class Page(Generic[M]):
    """A part of a list. Pages reached by cursor have no number and no totals."""

    items: tuple[M, ...]
    has_next: bool
    page: int | None = None
    total_items: int | None = None
    total_pages: int | None = None
    next_cursor: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Place(Model):
    """Where a page is, as the envelope's `pagination` says it."""

    has_next: bool = False
    page: int | None = None
    total_items: int | None = None
    total_pages: int | None = None
    next_cursor: str | None = None


class Listing(Generic[M]):
    """A list on the server: iterating asks for page after page, as far as one reads.

    `page(n)` is one numbered page. Lists with a cursor are read with it: what is added meanwhile repeats nothing.
    """

    def __init__(
        self,
        calls: Calls,
        path: str,
        model: type[M],
        params: Mapping[str, Any],
        *,
        by_cursor: bool,
        until: float | None = None,
        patient: bool = False,
    ) -> None:
        self._calls = calls
        self._path = path
        self._model = model
        self._params = params
        self._by_cursor = by_cursor
        self._until = until
        self._patient = patient

    def __iter__(self) -> Iterator[M]:
        for page in self.pages():
            yield from page.items

    def pages(self, page_size: int = LARGEST_PAGE) -> Iterator[Page[M]]:
        """All pages, the newest rows first."""
        number, cursor = 1, ""
        while True:
            where: dict[str, Any] = {"cursor": cursor} if self._by_cursor else {"page": number}
            page = self._read(page_size=page_size, **where)
            yield page
            if not page.has_next or (self._by_cursor and not page.next_cursor):
                return
            if self._by_cursor and page.next_cursor == cursor:
                raise UnexpectedAnswer(f"{self._path} answers with a page that follows itself")
            number, cursor = number + 1, page.next_cursor or ""

    def page(self, number: int = 1, page_size: int = 20) -> Page[M]:
        """One page, counted from 1, of at most 100 rows."""
        return self._read(page=number, page_size=page_size)

    def _read(self, **where: Any) -> Page[M]:
        call = get(self._path, **self._params, **where)
        answer = self._calls.answer(call, until=self._until, patient=self._patient)
        if not isinstance(answer.data, list):
            raise UnexpectedAnswer(f"{self._path} answers with something that is no list")
        place = read(_Place, answer.pagination)
        return Page(
            items=tuple(read(self._model, item) for item in answer.data),
            has_next=place.has_next,
            page=place.page,
            total_items=place.total_items,
            total_pages=place.total_pages,
            next_cursor=place.next_cursor,
        )

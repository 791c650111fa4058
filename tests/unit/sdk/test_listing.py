"""Lists are read page after page: everything once, in order, and no page more than is looked at."""

from itertools import islice
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retire_cluster.sdk import UnexpectedAnswer
from retire_cluster.sdk.listing import LARGEST_PAGE
from tests.unit.sdk.network import Server, client, success, task_row


class Shelf:
    """A server's list of tasks, by number or by cursor."""

    def __init__(self, amount: int) -> None:
        self.rows = [task_row(f"t{number}") for number in range(amount)]
        self.asked: list[httpx.QueryParams] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        params = request.url.params
        self.asked.append(params)
        size = int(params["page_size"])
        if "cursor" in params:
            start = int(params["cursor"] or 0)
            more = start + size < len(self.rows)
            place: dict[str, Any] = {
                "page_size": size,
                "has_next": more,
                "next_cursor": str(start + size) if more else None,
            }
        else:
            start = (int(params["page"]) - 1) * size
            total = -(-len(self.rows) // size)
            place = {
                "page": int(params["page"]),
                "page_size": size,
                "total_items": len(self.rows),
                "total_pages": total,
                "has_next": start + size < len(self.rows),
                "has_previous": start > 0,
            }
        return success(self.rows[start : start + size], pagination=place)


@settings(max_examples=40)
@given(amount=st.integers(0, 250), page_size=st.integers(1, LARGEST_PAGE))
def test_pages_hold_everything_once_and_in_order(amount: int, page_size: int) -> None:
    shelf = Shelf(amount)
    pages = list(client(shelf).tasks().pages(page_size))
    assert [task.task_id for page in pages for task in page.items] == [row["task_id"] for row in shelf.rows]
    assert len(shelf.asked) == max(1, -(-amount // page_size))


@given(amount=st.integers(0, 250))
def test_numbered_lists_too(amount: int) -> None:
    shelf = Shelf(amount)
    found = [client(shelf).tasks().page(number, 100) for number in range(1, 4)]
    assert [task.task_id for page in found for task in page.items] == [row["task_id"] for row in shelf.rows]
    assert {(page.total_items, page.total_pages) for page in found} == {(amount, -(-amount // 100))}


def test_a_page_nobody_looks_at_is_not_asked_for() -> None:
    shelf = Shelf(1000)
    assert len(list(islice(client(shelf).tasks(), 150))) == 150
    assert len(shelf.asked) == 2


def test_filters_go_with_every_page() -> None:
    shelf = Shelf(150)
    assert len(list(client(shelf).tasks(status="queued", device_id=["a", "b"]))) == 150
    assert [item.get_list("device_id") for item in shelf.asked] == [["a", "b"]] * 2
    assert [item["status"] for item in shelf.asked] == ["queued"] * 2


def test_a_list_that_is_none_is_named() -> None:
    with pytest.raises(UnexpectedAnswer, match="no list"):
        client(Server(success({}))).tasks().page()

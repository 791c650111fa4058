"""How many rows the admin says a large table has, as each database can tell without counting them."""

import pytest
from django.db import connection

from clusterconfig.backoffice import paging
from tasks.models import Profile
from tests.factories import START

pytestmark = pytest.mark.django_db


def _paginator(**conditions: str) -> paging.LargeTablePaginator:
    return paging.LargeTablePaginator(Profile.objects.filter(**conditions).order_by("-id"), 50)


@pytest.fixture
def _five_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "MAX_COUNTED", 2)
    for number in range(5):
        Profile.objects.create(digest=str(number), task_type="echo", requirements={}, last_used_at=START)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tasks_profile")


@pytest.mark.usefixtures("_five_rows")
def test_beyond_the_bound_postgres_estimates_and_sqlite_says_more() -> None:
    estimates = connection.vendor == "postgresql"

    assert _paginator().count == (5 if estimates else 3)
    assert _paginator().count_words == ("about 5" if estimates else "more than 2")


@pytest.mark.usefixtures("_five_rows")
def test_a_filtered_list_has_no_estimate() -> None:
    assert _paginator(task_type="echo").count_words == "more than 2"
    assert _paginator(digest="1").count_words == "1"

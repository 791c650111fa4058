"""Pages of tables with a million rows."""

from typing import TYPE_CHECKING, Any

from django.core import paginator
from django.db import connection
from django.db.models import QuerySet
from django.utils.functional import cached_property

from retire_cluster.api.pagination import MAX_COUNTED

if TYPE_CHECKING:
    Paginator = paginator.Paginator[Any]
else:
    Paginator = paginator.Paginator  # not subscriptable at run time


class LargeTablePaginator(Paginator):
    """Counts no more than MAX_COUNTED rows; beyond them PostgreSQL says about how many there are."""

    template_name = "admin/large_table_pagination.html"
    object_list: QuerySet[Any]

    @cached_property
    def count(self) -> int:
        # Counted even where there is an estimate: a list that seems to fit on a page is read as a whole.
        counted = self.object_list.values("pk")[: MAX_COUNTED + 1].count()
        return counted if counted <= MAX_COUNTED else max(counted, self._estimate())

    @property
    def count_words(self) -> str:
        """The count as a person should read it."""
        if self.count <= MAX_COUNTED:
            return f"{self.count:,}"
        return f"more than {MAX_COUNTED:,}" if self.count == MAX_COUNTED + 1 else f"about {self.count:,}"

    def _estimate(self) -> int:
        """Rows of the whole table as of its last vacuum; 0 where nothing is known or the list is filtered."""
        if connection.vendor != "postgresql" or self.object_list.query.where:
            return 0
        table = connection.ops.quote_name(self.object_list.model._meta.db_table)
        with connection.cursor() as cursor:
            cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", [table])
            return int(cursor.fetchone()[0])

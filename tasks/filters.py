"""Query parameters of the task list. Several values of one: any of them. Times: from a moment, and before one."""

from typing import Any

from devices.filters import NAME, NAME_MEANING
from retire_cluster.api.filters import QueryFilter, any_of, compared, matching, moment, one_of
from retire_cluster.protocol.states import Priority, TaskStatus

TASK_FILTERS: tuple[QueryFilter[Any], ...] = (
    QueryFilter("status", one_of(TaskStatus), any_of("status")),
    QueryFilter("task_type", matching(r"(?s).{1,100}", "1 to 100 characters"), any_of("task_type")),
    QueryFilter("priority", one_of(Priority), any_of("priority")),
    QueryFilter("device_id", matching(NAME, NAME_MEANING), any_of("device_id")),
    QueryFilter("created_after", moment, compared("created_at__gte")),
    QueryFilter("created_before", moment, compared("created_at__lt")),
)

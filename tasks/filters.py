"""Query parameters of the task list. Several values of one: any of them. Times: from a moment, and before one."""

from django_filters import FilterSet

from devices.filters import NAME, NAME_MEANING
from retire_cluster.api.filters import Values, matching, moment, words
from retire_cluster.protocol.states import Priority, TaskStatus


class TaskFilter(FilterSet):  # type: ignore[misc]  # django-filter has no types
    """`created_after` includes its moment, `created_before` does not: adjoining ranges share no task."""

    status = words(TaskStatus)
    task_type = Values(check=matching(r"(?s).{1,100}", "1 to 100 characters"))
    priority = words(Priority)
    device_id = Values(check=matching(NAME, NAME_MEANING))
    created_after = Values(check=moment, field_name="created_at", lookup="gte")
    created_before = Values(check=moment, field_name="created_at", lookup="lt")

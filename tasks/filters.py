"""Query parameters of the task list."""

import django_filters

from devices.filters import NAME, NAME_MEANING
from retire_cluster.api.filters import ListFilter, MomentFilter, matching, one_of
from retire_cluster.protocol.states import Priority, TaskStatus
from tasks.models import Task


class TaskFilter(django_filters.FilterSet):
    """Several values of one parameter, repeated or comma-separated: any of them. Times: from, and before."""

    status = ListFilter(check=one_of(TaskStatus))
    task_type = ListFilter(check=matching(r"(?s).{1,100}", "1 to 100 characters"))
    priority = ListFilter(check=one_of(Priority))
    device_id = ListFilter(check=matching(NAME, NAME_MEANING))
    created_after = MomentFilter(field_name="created_at", lookup_expr="gte")
    created_before = MomentFilter(field_name="created_at", lookup_expr="lt")

    class Meta:
        model = Task
        fields: list[str] = []

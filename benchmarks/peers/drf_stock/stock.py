"""The task list as a tutorial would write it: ModelSerializer, PageNumberPagination, DRF's default settings.

    STOCK_HOST=... STOCK_USER=... STOCK_NAME=... gunicorn stock:app

It reads the table that is there, in PostgreSQL, and changes nothing.
"""

import os

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="of a benchmark",
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "rest_framework", "django_filters"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": os.environ["STOCK_NAME"],
            "USER": os.environ["STOCK_USER"],
            "HOST": os.environ["STOCK_HOST"],
            "CONN_MAX_AGE": None,  # kept, as ours are; by default each request would connect anew
        }
    },
    REST_FRAMEWORK={
        "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.PageNumberPagination",
        "PAGE_SIZE": 50,
        "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    },
)
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import models  # noqa: E402
from django.urls import include, path  # noqa: E402
from rest_framework import serializers, viewsets  # noqa: E402
from rest_framework.routers import DefaultRouter  # noqa: E402


class Task(models.Model):
    """The columns a list shows, as ours does."""

    id = models.UUIDField(primary_key=True)
    task_type = models.CharField(max_length=100)
    status = models.CharField(max_length=9)
    priority = models.CharField(max_length=6)
    created_at = models.DateTimeField()
    device_id = models.CharField(max_length=64)
    assigned_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    execution_s = models.FloatField(null=True)
    failures = models.PositiveIntegerField()
    progress = models.FloatField(null=True)

    class Meta:
        app_label = "stock"
        managed = False
        db_table = "tasks_task"


class TaskSerializer(serializers.ModelSerializer):
    class Meta:
        model = Task
        fields = "__all__"


class TaskViewSet(viewsets.ReadOnlyModelViewSet):
    queryset = Task.objects.order_by("-created_at", "-id")
    serializer_class = TaskSerializer
    filterset_fields = ("status", "task_type")


router = DefaultRouter()
router.register("tasks", TaskViewSet)
urlpatterns = [path("", include(router.urls))]
app = get_wsgi_application()

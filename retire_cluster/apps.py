"""The project's own app: system checks and the Celery app."""

from django.apps import AppConfig


class RetireClusterConfig(AppConfig):
    name = "retire_cluster"
    verbose_name = "Retire-Cluster"

    def ready(self) -> None:
        from django.conf import settings

        # Imported here, not in the package's __init__: the agent must load neither Django nor Celery.
        from retire_cluster import celery, checks, db  # noqa: F401
        from retire_cluster.api import traffic
        from retire_cluster.ops import metrics

        db.close_pool_at_exit()
        if settings.WATCH_DATABASE:
            traffic.keep = metrics.keep_requests

"""Django's description of the tasks app."""

from django.apps import AppConfig


class TasksConfig(AppConfig):
    name = "tasks"
    verbose_name = "Tasks"

    def ready(self) -> None:
        from devices import signals
        from tasks import removal

        signals.leaving.connect(removal.release, dispatch_uid="tasks.removal")

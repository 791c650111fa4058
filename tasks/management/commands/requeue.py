"""`requeue --device ID`: the work of a device that will not come back, for other devices now."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from clusterconfig import audit
from devices import operations
from devices.models import Device
from tasks import removal

DRAINED = "its work was taken away by the command requeue"


class Command(BaseCommand):
    help = (
        "Put the tasks that a disconnected device holds back into the queue now, not when their leases run out. "
        "It is no failure and no loss of theirs. What must not run twice and may have run fails; what is being "
        "cancelled is cancelled. The device stays in the cluster: should it come back, it is told to stop."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--device", required=True, metavar="ID", help="the device's id")
        parser.add_argument(
            "--drain",
            action="store_true",
            help="if it is connected: cordon it, and have its gateway stop and requeue what runs there",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        device_id = options["device"]
        try:
            counts = removal.requeue(device_id, actor=audit.COMMAND)
        except Device.DoesNotExist:
            raise CommandError(f"--device: there is no device {device_id!r}") from None
        except removal.StillConnected as error:
            if not options["drain"]:
                raise CommandError(str(error)) from None
            operations.drain(device_id, reason=DRAINED, deadline_s=0, actor=audit.COMMAND)
            self.stdout.write(f"{device_id} is cordoned; its gateway requeues what runs there within seconds")
            return
        words = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        self.stdout.write(words or f"{device_id} holds no task")

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.utils import timezone

from board.models import Device

GROUP = "board"
FLEET = "fleet"


class BoardConsumer(AsyncJsonWebsocketConsumer):
    """Tells its client what is sent to the group."""

    async def connect(self):
        await self.channel_layer.group_add(GROUP, self.channel_name)
        await self.accept()

    async def disconnect(self, code):
        await self.channel_layer.group_discard(GROUP, self.channel_name)

    async def note(self, event):
        await self.send_json(event["data"])


class DeviceConsumer(AsyncJsonWebsocketConsumer):
    """A device: the first message describes it, each later one is a heartbeat."""

    device_id = ""

    async def connect(self):
        await self.accept()

    async def receive_json(self, content):
        if content["type"] == "register":
            self.device_id = content["device_id"]
            await self.channel_layer.group_add(FLEET, self.channel_name)
            await self._register(content["capabilities"], content["metrics"])
            await self.send_json({"type": "welcome"})
        else:
            await self._seen(content["metrics"])
            await self.send_json({"type": "heartbeat_ack"})

    async def disconnect(self, code):
        if self.device_id:
            await self.channel_layer.group_discard(FLEET, self.channel_name)
            await self._gone()

    @database_sync_to_async
    def _register(self, capabilities, metrics):
        about = {
            "capabilities": capabilities,
            "metrics": metrics,
            "online": True,
            "last_seen": timezone.now(),
        }
        Device.objects.update_or_create(id=self.device_id, defaults=about)

    @database_sync_to_async
    def _seen(self, metrics):
        Device.objects.filter(id=self.device_id).update(last_seen=timezone.now(), metrics=metrics)

    @database_sync_to_async
    def _gone(self):
        Device.objects.filter(id=self.device_id).update(online=False)

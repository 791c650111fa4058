"""Where each page is. What can be read has an address to keep; what a button does is a POST below it."""

from django.urls import path, register_converter

from devices.filters import NAME
from retire_cluster.dashboard.pages import (
    account,
    activity,
    device,
    devices,
    home,
    joining,
    settings,
    submit,
    task,
    tasks,
)


class DeviceName:
    """A device's id in an address."""

    regex = NAME

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(DeviceName, "device")

app_name = "dashboard"
urlpatterns = [
    path("", home.overview, name="overview"),
    path("devices/", devices.devices, name="devices"),
    path("devices/<device:device_id>/", device.device, name="device"),
    path("devices/<device:device_id>/ping/", device.ping, name="ping"),
    path("devices/<device:device_id>/cordon/", device.cordon, name="cordon"),
    path("devices/<device:device_id>/uncordon/", device.uncordon, name="uncordon"),
    path("devices/<device:device_id>/drain/", device.drain, name="drain"),
    path("devices/<device:device_id>/remove/", device.remove, name="remove"),
    path("tasks/", tasks.tasks, name="tasks"),
    path("tasks/cancel/", tasks.cancel, name="cancel"),
    path("tasks/retry/", tasks.retry, name="retry"),
    path("tasks/<uuid:task_id>/", task.task, name="task"),
    path("tasks/<uuid:task_id>/output/", task.printed, name="output"),
    path("submit/", submit.submit, name="submit"),
    path("submit/matches/", submit.matches, name="matches"),
    # Not below devices/: a device may be called "add".
    path("add-device/", joining.add_device, name="add-device"),
    path("add-device/token/", joining.make_token, name="make-token"),
    path("activity/", activity.activity, name="activity"),
    path("settings/", settings.settings, name="settings"),
    path("settings/keys/", settings.make_key, name="make-key"),
    path("settings/keys/<uuid:key_id>/revoke/", settings.revoke_key, name="revoke-key"),
    path("settings/tokens/<slug:token_id>/revoke/", settings.revoke_token, name="revoke-token"),
    path("sign-in/", account.sign_in, name="sign-in"),
    path("sign-in/once/", account.sign_in_once, name="sign-in-once"),
    path("sign-out/", account.sign_out, name="sign-out"),
    path("account/", account.account, name="account"),
]

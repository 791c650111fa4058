"""Text that is an attack where it is shown as anything but text, in every field that a device or a user fills."""

import json
from urllib.parse import quote

from django.utils import timezone

from clusterconfig import audit, keys, tokens
from clusterconfig.audit import Actor
from clusterconfig.keys import Scope
from devices.models import Device
from retire_cluster import db
from retire_cluster.events import outbox
from tasks.models import OutputChunk, Task
from tests.factories import make_attempt, make_device, make_finished_task, make_task

HOSTILE = [
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    "{{ 7*7 }}{% url 'x' %}${7*7}",
    "</textarea></code></pre></title><svg onload=alert(1)>",
    "<iframe srcdoc='<script>parent.alert(1)</script>'></iframe>",
    "<a href=javascript:alert(1)>x</a><style>*{display:none}</style>",
    "--></script><script>alert(1)</script><!--",
    "\u202eevil\u2066\u200b\ufeff",
    "Z\u0351\u036b\u0343a\u0321\u030a" * 40,
    "line\nline\r\n\ttab \x1b[31mred",
    "\U0001f4f1" * 120,
    "A" * 500,
]


def said_everywhere(text: str, name: str = "evil") -> list[str]:
    """Put the text into every field that a device or a user fills; the pages that show it, or take it."""
    short = text[:90]
    device = _device(text, name)
    failed = _task(device, text)
    running = make_task(
        status="running", device_id=name, progress=3, progress_message=text[:500], task_type=short
    )
    make_attempt(running, device)
    keys.create(short, [Scope.READ], now=timezone.now())
    _, token = tokens.create(short, now=timezone.now(), preset=tokens.Preset(tags=[text]))
    with db.write_transaction():
        outbox.record("device.offline", {"device_id": name, "status": "offline", "reason": text})
        outbox.record("device.changed", {"device_id": name, "cordoned": True, "cordon_reason": text})
        by = Actor(short, "::1", "")
        audit.record("device.cordon", name, actor=by, now=db.now(), details={"reason": text})
    given = quote(short)
    return [
        "/",
        "/devices/",
        "/devices/?view=table",
        f"/devices/{name}/",
        "/tasks/",
        f"/tasks/{failed.pk}/",
        f"/tasks/{running.pk}/",
        f"/submit/?type={given}",
        f"/devices/?q={given}&tags={given}",
        f"/tasks/?task_type={given}&device_id={given}&created_after={given}",
        f"/add-device/?token={token.pk}",
        "/activity/",
        f"/activity/?action={given}&target={given}&topic={given}",
        "/settings/",
    ]


def _device(text: str, name: str) -> Device:
    return make_device(
        name,
        status_reason=text[:500],
        paused_reason=text[:500],
        cordoned=True,
        cordon_reason=text[:500],
        tags=[text],
        task_types=[text],
        platform=text[:10],
        role=text[:10],
        agent_version=text[:255],
        capabilities={text: text, "machine": text, "python_version": text},
        metrics={"cpu_percent": text, "temperature_c": text, "uptime_s": 3.0},
    )


def _task(device: Device, text: str) -> Task:
    """One that failed on the device, and printed the text."""
    task = make_finished_task(
        device,
        status="failed",
        result=json.dumps({text: [text]}),
        error_message=text,
        error_traceback=text,
        reason=text[:500],
        task_type=text[:90],
        payload=json.dumps({text: text}),
        metadata={text: text},
        submitted_by=text[:90],
    )
    piece = {"attempt": 1, "number": 0, "stream": "stdout", "text": text}
    OutputChunk.objects.create(task=task, offset=0, at=db.now(), **piece)
    return task

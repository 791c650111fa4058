"""Adding a device: the command for it, as text and as a picture, and how far it has come."""

import segno
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString, mark_safe

from clusterconfig import joining, permissions, tokens
from clusterconfig.forms import TokenForm
from clusterconfig.keys import Scope
from clusterconfig.models import JoinToken
from devices.models import Device
from retire_cluster import db
from retire_cluster.dashboard.access import action, page
from retire_cluster.dashboard.shell import show
from retire_cluster.hosts import RELAY, host_name

PLACEHOLDER = "TOKEN"
SHOWN = 20  # devices of one token
_WITH_VENV = (
    "python3 -m venv ~/retire-cluster && ~/retire-cluster/bin/pip install /path/to/retire-cluster\n"
    "export PATH=$HOME/retire-cluster/bin:$PATH"
)
INSTALL = (
    ("Linux, Raspberry Pi", _WITH_VENV),
    ("macOS", _WITH_VENV),
    ("Android: Termux", "pkg install python && pip install /path/to/retire-cluster && termux-wake-lock"),
)


@page
def add_device(request: HttpRequest) -> HttpResponse:
    """How to add one; with `token`, how far the devices of that token have come."""
    known = JoinToken.objects.filter(pk=request.GET.get("token", "")[:64]).first()
    return _page(request, known)


@action(Scope.ADMIN)
def make_token(request: HttpRequest) -> HttpResponse:
    """Make a token and show its command, once."""
    form = TokenForm({**request.POST.dict(), "name": request.POST.get("name") or "from the dashboard"})
    if not form.is_valid():
        return _page(request, None, problems=_errors(form.errors.as_data()), status=400)
    new = form.new
    text, row = tokens.create(
        new.name,
        now=db.now(),
        max_uses=new.max_uses,
        expires_at=new.expires_at,
        preset=new.preset,
        actor=permissions.staff_actor(request),
    )
    return _page(request, row, text=joining.as_device_needs_it(text))


def reached_as(request: HttpRequest) -> str:
    """The name by which the visitor reached the gateway's machine; "" where a relay stood in between."""
    return "" if RELAY in request.headers.get("Via", "") else host_name(request.get_host())


def qr_code(text: str) -> SafeString:
    """The text as a picture for a phone's camera: SVG without any style, drawn from our own text."""
    code = segno.make(text, error="m", micro=False)
    # Without a size of its own it shrinks where there is little room; with one it would be cut off.
    drawn = code.svg_inline(scale=4, dark="#000", light="#fff", svgclass="qr", omitsize=True)
    return mark_safe(drawn)  # noqa: S308


def steps(device: Device) -> list[tuple[str, bool]]:
    """How far a device has come, each step with whether it is done."""
    return [
        ("seen", True),
        ("verified", device.secret_confirmed),
        ("ready", device.online and device.secret_confirmed and not device.cordoned),
    ]


def _page(
    request: HttpRequest,
    token: JoinToken | None,
    *,
    text: str = "",
    problems: list[tuple[str, str]] | None = None,
    status: int = 200,
) -> HttpResponse:
    """`text` is a new token, to be shown this once."""
    host = reached_as(request)
    # Most shells keep a line that begins with a blank out of their history.
    command = f" {joining.command(text or PLACEHOLDER, reached_as=host)}"
    return show(
        request,
        "dashboard/add_device.html",
        parts=("steps",),
        topics="device",
        status=status,
        refresh=f"{request.path.removesuffix('token/')}?token={token.pk if token else ''}",
        token=token,
        is_new=bool(text),
        command=command,
        picture=qr_code(command) if text else "",
        install=INSTALL,
        installed_command=joining.installed_command(text or PLACEHOLDER, reached_as=host),
        problems=problems or [],
        given=request.POST,
        arrivals=_arrivals(token) if token else [],
        newest=[] if token else _newest(),
    )


def _arrivals(token: JoinToken) -> list[tuple[Device, list[tuple[str, bool]]]]:
    joined = Device.objects.members().filter(join_token=token).newest()[:SHOWN]
    return [(device, steps(device)) for device in joined]


def _newest() -> list[tuple[Device, list[tuple[str, bool]]]]:
    return [(device, steps(device)) for device in Device.objects.members().newest()[:3]]


def _errors(found: dict[str, list[ValidationError]]) -> list[tuple[str, str]]:
    return [
        (name, str(message))
        for name, errors in found.items()
        for error in errors
        for message in error.messages
    ]

"""The form that submits a task: a field for each part of a payload, and which devices match it now."""

import uuid
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from clusterconfig import permissions
from devices.models import Device
from retire_cluster.api.errors import ApiError, FieldError
from retire_cluster.dashboard import access, filtering, tasktypes, words
from retire_cluster.dashboard.access import form
from retire_cluster.dashboard.shell import show
from retire_cluster.dashboard.tasktypes import Unreadable
from retire_cluster.protocol.states import DeviceLossPolicy, Platform, Priority, Role
from retire_cluster.protocol.tasktypes import BUILTIN_TYPES
from tasks import explain, idempotency, services, submissions
from tasks.scheduling.profiles import ProfileKey

CUSTOM_TYPES = 40  # that have a chip; others are reached by ?type=
NUMBERS = (
    ("min_cpu_cores", "Processors, at least"),
    ("min_memory_gb", "Memory in GB, at least"),
    ("min_storage_gb", "Storage in GB, at least"),
)
LIMITS = (
    ("timeout_seconds", "Time limit in seconds", submissions.DEFAULT_TIMEOUT_S),
    ("max_retries", "Tries after a failure", 0),
)
CHOICES = (
    ("required_platform", "Platform", tuple(item.value for item in Platform)),
    ("required_role", "Role", tuple(item.value for item in Role)),
)
FLAGS = (("gpu_required", "Needs a GPU"), ("internet_required", "Needs the internet"))


@form
def submit(request: HttpRequest) -> HttpResponse:
    """Show the form, or submit what was filled in: once, however often it is sent."""
    task_type = _chosen_type(request)
    problems: list[FieldError] = []
    if request.method == "POST":
        refusal = access.may_run(request, task_type)
        problems = [FieldError("task_type", refusal)] if refusal else []
        if not problems:
            try:
                return _submitted(request, task_type)
            except Unreadable as error:
                problems = [FieldError(error.field, error.reason)]
            except ApiError as error:
                problems = filtering.problems_of(error)
            except services.UnknownTaskType as error:
                problems = [FieldError("task_type", str(error))]
            except (services.TooManyProfiles, idempotency.Mismatch) as error:
                problems = [
                    FieldError("", str(error) or "this form was sent with other values before; reload it")
                ]
    return _page(request, task_type, problems)


@form
def matches(request: HttpRequest) -> HttpResponse:
    """Which devices match what is filled in so far: a part of the page."""
    given = request.POST or request.GET
    return render(
        request,
        "dashboard/parts/matches.html",
        {"matches": _matches(request, str(given.get("task_type", "echo")))},
    )


def _submitted(request: HttpRequest, task_type: str) -> HttpResponse:
    body = _body(request, task_type)
    submission = submissions.parse(body)
    actor = permissions.actor(access.caller(request))
    # The form carries a number of its own: pressed twice, or sent again after a lost answer, it is one task.
    token = idempotency.token(
        client=actor.principal or f"address:{actor.address}",
        key=_once(request),
        endpoint="dashboard/submit",
        body=body,
    )
    [task] = services.submit([submission], actor=actor, token=token).tasks
    messages.success(request, f"Task {words.short_id(task.pk)} was submitted.")
    return redirect("dashboard:task", task.pk)


def _once(request: HttpRequest) -> str:
    """The form's own number; whatever else was sent for it is none."""
    try:
        return str(uuid.UUID(request.POST.get("once", "")))
    except ValueError:
        return str(uuid.uuid4())


def _page(request: HttpRequest, task_type: str, problems: list[FieldError]) -> HttpResponse:
    kind = tasktypes.kind_of(task_type)
    given = request.POST
    named = {problem.field for problem in problems}
    shown = (
        {f"payload.{entry.name}" for entry in kind.entries}
        | {f"requirements.{name}" for name in _NAMES}
        | {"task_type"}
    )
    return show(
        request,
        "dashboard/submit.html",
        topics="device",
        status=400 if problems else 200,
        kind=kind,
        entries=[_entry(entry, given, problems) for entry in kind.entries],
        types=_types(),
        task_type=task_type,
        problems=[problem for problem in problems if problem.field not in shown],
        type_problem=_reason("task_type", problems),
        has_problems=bool(problems),
        numbers=[_wanted(name, label, given, problems) for name, label in NUMBERS],
        limits=[_wanted(name, label, given, problems, default) for name, label, default in LIMITS],
        choices=[
            _wanted(name, label, given, problems) | {"words": offered} for name, label, offered in CHOICES
        ],
        flags=[(name, label, bool(given.get(name))) for name, label in FLAGS],
        tags=_wanted("required_tags", "Tags, by commas", given, problems),
        priorities=[item.value for item in Priority],
        priority=given.get("priority", Priority.NORMAL.value),
        losses=[item.value for item in DeviceLossPolicy],
        loss=given.get("on_device_loss", DeviceLossPolicy.REQUEUE.value),
        wants_open=any(field.startswith("requirements") for field in named),
        once=_once(request),
        refusal=access.may_run(request, task_type),
        matches=_matches(request, task_type),
    )


_NAMES = [name for name, *_ in (*NUMBERS, *LIMITS, *CHOICES, *FLAGS)] + ["required_tags", "on_device_loss"]


def _chosen_type(request: HttpRequest) -> str:
    given = request.POST if request.method == "POST" else request.GET
    return str(given.get("task_type") or given.get("type") or "echo")[: submissions.MAX_TYPE]


def _types() -> list[str]:
    offered = Device.objects.members().filter(online=True).offered_types().types
    return [*BUILTIN_TYPES, *sorted(set(offered) - set(BUILTIN_TYPES))[:CUSTOM_TYPES]]


def _entry(entry: tasktypes.Entry, given: Any, problems: list[FieldError]) -> dict[str, Any]:
    name = f"payload.{entry.name}"
    return {
        "entry": entry,
        "name": name,
        "value": given.get(name, entry.example),
        "problem": _reason(name, problems),
    }


def _wanted(
    name: str, label: str, given: Any, problems: list[FieldError], default: object = ""
) -> dict[str, Any]:
    reason = _reason(f"requirements.{name}", problems)
    return {"name": name, "label": label, "value": given.get(name, default), "problem": reason}


def _reason(field: str, problems: list[FieldError]) -> str:
    """What is wrong with a field; with an entry of its list, too."""
    return next((item.reason for item in problems if item.field.partition("[")[0] == field), "")


# --- what was filled in ---------------------------------------------------------------------------------------


def _body(request: HttpRequest, task_type: str) -> dict[str, Any]:
    """The body of the API's request. Raises Unreadable."""
    given = request.POST.dict()
    return {
        "task_type": task_type,
        "payload": tasktypes.payload(tasktypes.kind_of(task_type), _texts(given)),
        "priority": given.get("priority") or Priority.NORMAL.value,
        "requirements": _requirements(_texts(given)),
    }


def _texts(given: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in given.items()}


def _requirements(given: dict[str, str]) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    for name, *_ in (*NUMBERS, *LIMITS):
        if given.get(name, "").strip():
            wanted[name] = _number(given[name].strip())
    for name, *_ in (*CHOICES, ("on_device_loss",)):
        if given.get(name):
            wanted[name] = given[name]
    tags = [tag.strip() for tag in given.get("required_tags", "").split(",") if tag.strip()]
    return {**wanted, "required_tags": tags, **{name: True for name, _ in FLAGS if given.get(name)}}


def _number(text: str) -> float | int | str:
    """A number if it is one; else the text, which the API's reader refuses by name."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def _matches(request: HttpRequest, task_type: str) -> dict[str, Any]:
    """Which devices match the requirements, or what is wrong with them."""
    given = _texts((request.POST or request.GET).dict())
    try:
        wanted = submissions.parse_requirements(_requirements(given))
    except ApiError as error:
        return {"problems": filtering.problems_of(error)}
    found = explain.explain(ProfileKey(task_type, wanted))
    return {"found": found, "nearest": found.devices[:5]}

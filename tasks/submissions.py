"""From the body of a POST to a Submission: bounds, words and defaults of the API's contract."""

from dataclasses import dataclass
from typing import Any

from devices.filters import NAME, NAME_MEANING
from retire_cluster.api.errors import too_large
from retire_cluster.api.filters import matching
from retire_cluster.api.validation import ObjectReader
from retire_cluster.protocol import jsontext
from retire_cluster.protocol.messages import MAX_PAYLOAD_BYTES
from retire_cluster.protocol.states import DeviceLossPolicy, Platform, Priority, Role
from retire_cluster.protocol.tasktypes import problems
from tasks.scheduling.profiles import Requirements
from tasks.services import Submission

MAX_TYPE = 100
MAX_CORES = 1_000_000
MAX_GB = 1e9
MAX_TAGS = 32
MAX_TIMEOUT_S = 86_400
DEFAULT_TIMEOUT_S = 300
MAX_RETRIES = 10
MAX_BATCH = 1000
MAX_ERRORS = 100  # named in one answer

_check_tag = matching(NAME, NAME_MEANING)


def parse(body: Any) -> Submission:
    """A validated submission. Raises the API's 400 with every invalid field, or 413."""
    reader = ObjectReader(body)
    submission = _read(reader, dict(_NOTHING_WANTED))
    reader.finish()
    return submission


def parse_batch(body: Any) -> list[Submission]:
    """All submissions of a batch, or none. Raises the API's 400 with each bad entry named, or 413."""
    reader = ObjectReader(body)
    entries = reader.objects("tasks", fewest=1, most=MAX_BATCH)
    submissions: list[Submission] = []
    known = dict(_NOTHING_WANTED)
    for index, entry in enumerate(entries):
        if len(reader.errors) >= MAX_ERRORS:
            reader.fail("tasks", f"entries from {index} on were not looked at: too many before are wrong")
            break
        entry_reader = ObjectReader(entry, f"tasks[{index}]", reader)
        submissions.append(_read(entry_reader, known))
        entry_reader.check_keys()
    reader.finish()
    return submissions


def parse_requirements(body: Any) -> Requirements:
    """What decides where a task may run, alone. Raises the API's 400 with every invalid field."""
    reader = ObjectReader(body, "requirements")
    requirements = _requirements(reader)
    _limits(reader)
    reader.finish()
    return requirements


def named_types(body: Any) -> set[str]:
    """The possible task types a body of one task or a batch names, whatever else is wrong with it."""
    tasks = body.get("tasks") if isinstance(body, dict) else None
    entries = [body, *(tasks if isinstance(tasks, list) else [])]
    names = (entry.get("task_type") for entry in entries if isinstance(entry, dict))
    return {name for name in names if isinstance(name, str) and 1 <= len(name) <= MAX_TYPE}


def _read(reader: ObjectReader, known: dict[str, "_Wishes"]) -> Submission:
    """One submission; what is wrong with it is noted in the reader. `known`: see `_known_wishes`."""
    task_type = reader.text("task_type", longest=MAX_TYPE)
    payload = reader.free_object("payload", required=True)
    priority = reader.choice("priority", Priority, Priority.NORMAL) or Priority.NORMAL
    metadata = reader.free_object("metadata", required=False)
    wishes = _known_wishes(reader.child("requirements"), known)
    _check_payload(reader, task_type, payload)
    return Submission(
        task_type=task_type,
        payload_json=_payload_text(reader, payload),
        priority=priority,
        requirements=wishes.requirements,
        requirements_json=wishes.shown,
        timeout_s=wishes.shown["timeout_seconds"],
        max_retries=wishes.shown["max_retries"],
        on_device_loss=wishes.shown["on_device_loss"],
        metadata=metadata,
    )


@dataclass(frozen=True, slots=True)
class _Wishes:
    """What `requirements` of a body say: what decides where a task may run, and all of it as it is shown."""

    requirements: Requirements
    shown: dict[str, Any]


def _known_wishes(reader: ObjectReader, known: dict[str, _Wishes]) -> _Wishes:
    """The wishes; what is written alike is read once and kept in `known`, by its text.

    Tasks of a batch mostly want the same, and eleven fields are a fifth of what a batch takes.
    """
    if (text := reader.as_text) in known:
        return known[text]
    errors = len(reader.errors)
    wishes = _wishes(reader)
    if len(reader.errors) == errors:  # else the next one that is so is to be named too
        known[text] = wishes
    return wishes


def _wishes(reader: ObjectReader) -> _Wishes:
    requirements = _requirements(reader)
    limits = _limits(reader)
    reader.check_keys()
    return _Wishes(requirements, {**_shown(requirements), **limits})


def _requirements(reader: ObjectReader) -> Requirements:
    return Requirements(
        min_cpu_cores=reader.integer("min_cpu_cores", 1, MAX_CORES, None),
        min_memory_gb=reader.number("min_memory_gb", 0, MAX_GB, None, above=True),
        min_storage_gb=reader.number("min_storage_gb", 0, MAX_GB, None, above=True),
        required_platform=reader.choice("required_platform", Platform, None),
        required_role=reader.choice("required_role", Role, None),
        required_tags=_tags(reader),
        gpu_required=reader.boolean("gpu_required"),
        internet_required=reader.boolean("internet_required"),
    )


def _tags(reader: ObjectReader) -> tuple[str, ...]:
    tags = reader.strings("required_tags", most=MAX_TAGS)
    for index, tag in enumerate(tags):
        try:
            _check_tag(tag)
        except ValueError as error:
            reader.fail(f"required_tags[{index}]", str(error))
    return tuple(tags)


def _limits(reader: ObjectReader) -> dict[str, Any]:
    """The requirements that do not decide where a task may run."""
    return {
        "timeout_seconds": reader.integer("timeout_seconds", 1, MAX_TIMEOUT_S, DEFAULT_TIMEOUT_S),
        "max_retries": reader.integer("max_retries", 0, MAX_RETRIES, 0),
        "on_device_loss": reader.choice("on_device_loss", DeviceLossPolicy, DeviceLossPolicy.REQUEUE),
    }


def _shown(requirements: Requirements) -> dict[str, Any]:
    return {
        "min_cpu_cores": requirements.min_cpu_cores,
        "min_memory_gb": requirements.min_memory_gb,
        "min_storage_gb": requirements.min_storage_gb,
        "required_platform": requirements.required_platform,
        "required_role": requirements.required_role,
        "required_tags": list(requirements.required_tags),
        "gpu_required": requirements.gpu_required,
        "internet_required": requirements.internet_required,
    }


_EMPTY = ObjectReader({})
_NOTHING_WANTED = {_EMPTY.as_text: _wishes(_EMPTY)}  # what most tasks say


def _check_payload(reader: ObjectReader, task_type: str, payload: dict[str, Any]) -> None:
    """What can be said now about a built-in type's payload; its device looks at it again."""
    for field, reason in problems(task_type, payload):
        reader.fail(f"payload.{field}", reason)


def _payload_text(reader: ObjectReader, payload: dict[str, Any]) -> str:
    text = jsontext.dumps(payload)
    if len(text) > MAX_PAYLOAD_BYTES or len(text.encode()) > MAX_PAYLOAD_BYTES:
        raise too_large(f"may have {MAX_PAYLOAD_BYTES} bytes as compact JSON", reader.path_of("payload"))
    return text

"""Tasks from the terminal: submit, look, wait, cancel, retry, explain."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from retire_cluster.sdk import ApiError, Client, DeadlinePassed, SdkError, Submission, Task
from retire_cluster.sdk.errors import DeviceNotFound
from retire_cluster.sdk.models import Explanation, Result
from retire_cluster.sdk.progress import counting
from retire_cluster.terminal import advice, shown
from retire_cluster.terminal.exits import Exit, Trouble

COLUMNS = ("task", "type", "status", "priority", "device", "created", "seconds", "progress")


def add_placement(parser: argparse.ArgumentParser) -> None:
    """The flags that say where and how a task may run."""
    option = parser.add_argument_group("where and how it runs").add_argument
    option("--priority", choices=("low", "normal", "high", "urgent"))
    option("--cores", type=int, dest="min_cpu_cores", metavar="N", help="at least so many cores")
    option("--memory", type=float, dest="min_memory_gb", metavar="GB", help="at least so much memory")
    option("--storage", type=float, dest="min_storage_gb", metavar="GB", help="at least so much storage")
    option("--platform", dest="required_platform", choices=("linux", "windows", "android", "darwin"))
    option("--role", dest="required_role", choices=("worker", "compute", "storage", "mobile"))
    option(
        "--tag", action="append", dest="required_tags", metavar="TAG", help="the device has it; repeatable"
    )
    option("--gpu", action="store_const", const=True, dest="gpu_required", help="the device has a GPU")
    option("--internet", action="store_const", const=True, dest="internet_required", help="it is online")
    option("--timeout", type=int, dest="timeout_seconds", metavar="S", help="end it after so long (300)")
    option("--retries", type=int, dest="max_retries", metavar="N", help="run it again when it fails (0)")
    option("--on-device-loss", choices=("requeue", "fail"), help="run it elsewhere, or never twice (requeue)")


_REQUIREMENTS = (
    "min_cpu_cores", "min_memory_gb", "min_storage_gb", "required_platform", "required_role", "required_tags",
    "gpu_required", "internet_required", "timeout_seconds", "max_retries", "on_device_loss",
)  # fmt: skip


def placed(arguments: argparse.Namespace, task_type: str, payload: dict[str, Any]) -> Submission:
    """The submission with what the flags of `add_placement` ask for."""
    wanted = {
        name: getattr(arguments, name) for name in _REQUIREMENTS if getattr(arguments, name) is not None
    }
    return Submission(task_type, payload, arguments.priority, wanted or None)


def sent(client: Client, submission: Submission) -> Task:
    """Submit it."""
    try:
        return client.submit(
            submission.task_type,
            submission.payload,
            priority=submission.priority,
            requirements=submission.requirements,
        )
    except KeyboardInterrupt:
        shown.note("whether the task was submitted is not known: `retire-cluster tasks` tells")
        raise


def submit(client: Client, arguments: argparse.Namespace) -> int:
    """`submit TYPE [PAYLOAD]`, or `--file` with one task a line."""
    if arguments.file:
        if arguments.type or arguments.payload:
            raise Trouble("give either TYPE with its PAYLOAD or --file, not both", Exit.USAGE)
        return _submit_file(client, arguments)
    if not arguments.type:
        raise Trouble("TYPE is missing: what kind of task, as echo; `types` lists them", Exit.USAGE)
    submission = placed(arguments, arguments.type, _payload(arguments.payload))
    if arguments.dry_run:
        found = client.dry_run(submission.task_type, submission.payload, requirements=submission.requirements)
        return _say_explanation(found, as_json=arguments.json)
    task = sent(client, submission)
    if _waits(arguments):
        return _ended(client, arguments, [task.task_id])
    shown.as_json(task.raw) if arguments.json else shown.say(task.task_id)
    return Exit.OK


def _submit_file(client: Client, arguments: argparse.Namespace) -> int:
    wanted = _lines(arguments.file)
    try:
        tasks = client.submit_many(wanted)
    except SdkError as error:
        if error.submitted:
            _say_submitted(error.submitted, as_json=arguments.json)
            shown.note(f"the first {len(error.submitted)} of {len(wanted)} tasks were submitted, and go on")
        raise
    except KeyboardInterrupt:
        shown.note("some of the tasks may have been submitted: `retire-cluster tasks` tells")
        raise
    if _waits(arguments):
        return _ended(client, arguments, [task.task_id for task in tasks])
    _say_submitted(tasks, as_json=arguments.json)
    return Exit.OK


def _say_submitted(tasks: Sequence[Task], *, as_json: bool) -> None:
    if as_json:
        shown.as_json([task.raw for task in tasks])
    else:
        for task in tasks:
            shown.say(task.task_id)


def _waits(arguments: argparse.Namespace) -> bool:
    return arguments.wait or arguments.wait_s is not None


def _ended(
    client: Client, arguments: argparse.Namespace, task_ids: Sequence[str], *, bar: bool = True
) -> int:
    """Show their results in their order, each as it is there."""
    outcome = _Outcome()
    results = _awaited(client, task_ids, arguments.wait_s, bar=bar)
    try:
        outcome.show(results, len(task_ids), as_json=arguments.json)
    except DeadlinePassed as late:
        open_ids = _still_open(client, task_ids[outcome.shown :], late)
        if len(task_ids) == 1:
            raise Trouble(advice.said(late), Exit.TIMED_OUT) from None
        raise Trouble(
            f"{len(open_ids)} of {len(task_ids)} tasks have not ended after {arguments.wait_s:g} s; results are "
            f"shown up to the first of them, {late.task.task_id}: `retire-cluster explain TASK` says where it "
            "can run, `retire-cluster result --wait TASK` waits on",
            Exit.TIMED_OUT,
        ) from None
    except KeyboardInterrupt:
        going = "the task goes" if len(task_ids) == 1 else f"the {len(task_ids)} tasks go"
        shown.note(f"{going} on; `retire-cluster tasks` shows what becomes of it")
        raise
    return outcome.code


def _still_open(client: Client, task_ids: Sequence[str], late: DeadlinePassed) -> Sequence[str]:
    """Which of those that are not shown yet have not ended."""
    if len(task_ids) <= 1:
        return task_ids
    try:
        client.wait_all(task_ids, 0, progress=False)
    except DeadlinePassed as found:
        return [task.task_id for task in found.open]
    except SdkError:
        pass  # at least that one
    return [late.task.task_id]


def _awaited(client: Client, task_ids: Sequence[str], wait_s: float | None, *, bar: bool) -> Iterator[Result]:
    """Their results, each as it is there; a bar where none of them comes between it."""
    results = client.results(task_ids, wait_s)
    if len(task_ids) == 1:
        with counting(1, show=bar):
            found = next(results)
        yield found
        return
    with counting(len(task_ids), show=bar and not shown.is_terminal()) as done:
        for number, found in enumerate(results, 1):
            done(number)
            yield found


class _Outcome:
    """Results that are shown, and the exit code they lead to."""

    def __init__(self) -> None:
        self.shown = 0
        self.code = Exit.OK

    def show(self, results: Iterable[Result], total: int, *, as_json: bool) -> None:
        seen = map(self._noted, results)
        if as_json and total > 1:
            shown.as_json_list(found.raw for found in seen)
            return
        for found in seen:
            if as_json:
                shown.as_json(found.raw)
            else:
                failed = f"{found.status}: {found.error_message or ''}".rstrip(": ")
                print(
                    shown.json_text(found.result_data) if found.ok else shown.cell(failed, human=True),
                    flush=True,
                )

    def _noted(self, found: Result) -> Result:
        self.shown += 1
        self.code = self.code if found.ok else Exit.FAILED
        return found


def _payload(text: str | None) -> dict[str, Any]:
    """A JSON object: as an argument, from @FILE or, as -, from standard input."""
    if text is None:
        return {}
    if text == "-":
        return _object(_read("-"), "standard input")
    if text.startswith("@"):
        return _object(_read(text[1:]), text[1:])
    return _object(text, "PAYLOAD")


def _lines(name: str) -> list[dict[str, Any]]:
    """One task as the API takes it a line; empty lines are left out."""
    # Not splitlines(): it splits at letters that JSON allows within a text.
    found = enumerate(_read(name).split("\n"), 1)
    lines = [(number, line) for number, line in found if line.strip()]
    if not lines:
        raise Trouble(f"{name} has no tasks: write one JSON object a line", Exit.USAGE)
    return [_object(line, f"{name}, line {number}") for number, line in lines]


def _read(name: str) -> str:
    """A file's text, or with - that of standard input. What Windows writes before a text is none of it."""
    place = "standard input" if name == "-" else name
    try:
        if name == "-":
            content = b"" if sys.stdin is None else sys.stdin.buffer.read()
        else:
            content = Path(name).expanduser().read_bytes()
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Trouble(f"cannot read {place}: it is no UTF-8 text", Exit.USAGE) from None
    except (OSError, RuntimeError) as error:  # the second: ~NAME of a user who is not here
        words = error.strerror if isinstance(error, OSError) else str(error)
        raise Trouble(f"cannot read {place}: {words}", Exit.USAGE) from None


def _object(text: str, place: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        raise Trouble(f"{place} is no JSON: {error}", Exit.USAGE) from None
    except RecursionError:
        raise Trouble(f"{place} is nested too deeply", Exit.USAGE) from None
    if not isinstance(value, dict):
        raise Trouble(f'{place} must be a JSON object, as {{"message": "Hello"}}', Exit.USAGE)
    return value


def _no_constant(word: str) -> None:
    """NaN and its like, which Python reads and JSON does not have."""
    raise ValueError(f"{word} is no number of JSON's")


def tasks(client: Client, arguments: argparse.Namespace) -> int:
    """`tasks`: the newest, or one with everything."""
    if arguments.task:
        return _one(client, arguments)
    listing = client.tasks(
        status=arguments.status,
        task_type=arguments.type,
        priority=arguments.priority,
        device_id=arguments.device,
    )
    page = listing.page(1, arguments.limit)
    if arguments.json:
        shown.as_json([task.raw for task in page.items])
        return Exit.OK
    shown.table(COLUMNS, map(row, page.items), empty="no tasks; `retire-cluster submit echo` makes one")
    if page.has_next and shown.is_terminal():
        shown.note(f"{len(page.items)} of {page.total_items} tasks; --limit shows more, at most 100")
    return Exit.OK


def row(task: Task) -> tuple[object, ...]:
    """A task's line in a table."""
    return (
        task.task_id,
        task.task_type,
        "cancelling" if task.cancel_requested and not task.is_terminal else task.status,
        task.priority,
        task.assigned_device_id,
        task.created_at,
        task.execution_time_seconds,
        None if task.progress is None else f"{task.progress:.0f} %",
    )


def _one(client: Client, arguments: argparse.Namespace) -> int:
    task = client.task(arguments.task)
    if arguments.json:
        shown.as_json(task.raw)
        return Exit.OK
    why = None if task.is_terminal else client.status(task).queue_reason
    ended = task.attempts[-1] if task.attempts else None
    shown.facts(
        {
            "task": task.task_id,
            "type": task.task_type,
            "status": task.status,
            **({"waits because": why} if why else {}),
            "priority": task.priority,
            "device": _device(client, task),
            "created": task.created_at,
            "started": task.started_at,
            "ended": task.completed_at,
            "seconds": task.execution_time_seconds,
            "attempts": len(task.attempts),
            "error": ended.error_message if ended else None,
            "payload": json.dumps(task.payload, ensure_ascii=False),
            "result": json.dumps(task.result, ensure_ascii=False),
        }
    )
    return Exit.OK


def _device(client: Client, task: Task) -> str | None:
    """Where it is, and whether that device is gone: until its grace is over the task counts as running."""
    device_id = task.assigned_device_id
    if device_id is None or task.is_terminal:
        return device_id
    try:
        found = client.device_status(device_id)
    except DeviceNotFound:
        return device_id
    return device_id if found.is_online else f"{device_id}, offline: {found.status_reason}"


def result(client: Client, arguments: argparse.Namespace) -> int:
    """`result TASK`: with --wait once it has ended."""
    if _waits(arguments):
        return _ended(client, arguments, [arguments.task], bar=False)
    outcome = _Outcome()
    outcome.show([client.result(arguments.task)], 1, as_json=arguments.json)
    return outcome.code


def cancel(client: Client, arguments: argparse.Namespace) -> int:
    """`cancel TASK…`."""
    return _each(arguments, client.cancel)


def retry(client: Client, arguments: argparse.Namespace) -> int:
    """`retry TASK…`."""
    return _each(arguments, client.retry)


def _each(arguments: argparse.Namespace, act: Callable[[str], Task]) -> int:
    """Do it to every task; those the server refuses keep no other from it."""
    done: list[Task] = []
    for task_id in arguments.task:
        try:
            done.append(act(task_id))
        except ApiError as error:
            shown.note(f"{task_id}: {advice.said(error)}")
    if arguments.json:
        shown.as_json([task.raw for task in done])
    elif done:
        shown.table(COLUMNS, map(row, done))
    return Exit.OK if len(done) == len(arguments.task) else Exit.FAILED


def explain(client: Client, arguments: argparse.Namespace) -> int:
    """`explain TASK`: where it can run, and why not elsewhere."""
    return _say_explanation(client.explain(arguments.task), as_json=arguments.json)


def _say_explanation(found: Explanation, *, as_json: bool) -> int:
    if as_json:
        shown.as_json(found.raw)
        return Exit.OK
    print(shown.cell(found.reason, human=True))
    columns = ("device", "fits", "available", "fails at", "wanted", "found")
    rows: list[tuple[object, ...]] = []
    for device in found.devices:
        about = (device.device_id, device.fits, device.available)
        wrong = [check for check in device.checks if not check.passed]
        rows += [(*about, check.check, check.wanted, check.found) for check in wrong]
        rows += [] if wrong else [(*about, None, None, None)]
    shown.table(columns, rows, empty="there is no device yet: `retire-cluster tokens create` lets one join")
    return Exit.OK


def types(client: Client, arguments: argparse.Namespace) -> int:
    """`types`: what devices offer."""
    found = client.types()
    if arguments.json:
        shown.as_json(found.raw)
        return Exit.OK
    shown.table(
        ("type", "online devices"),
        sorted(found.devices_by_type.items()),
        empty="no device is online, so nothing can run now",
    )
    return Exit.OK

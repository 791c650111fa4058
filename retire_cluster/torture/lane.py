"""A lane: two devices and a client of their own, in which one episode after the other is played and collected."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from retire_cluster.torture import evidence
from retire_cluster.torture.client import NoAnswer, Owner
from retire_cluster.torture.history import History, Story
from retire_cluster.torture.processes import Device, Server
from retire_cluster.torture.proxy import Link
from retire_cluster.torture.scenario import (
    AGENTS,
    LEASE_S,
    PlannedFault,
    PlannedTask,
    Scenario,
    body,
    expected,
)

LOOK_S = 0.5  # between two looks at a task
SETTLE_S = 150.0  # after the last fault everything must be over by then; a restart alone may take 30 s
_RETRYABLE = ("failed", "timeout", "cancelled")


class Lane:
    """Plays scenarios. The tag of its tasks keeps other lanes' devices away from them."""

    def __init__(self, number: int, directory: Path, server: Server) -> None:
        self.tag = f"lane-{number}"
        self._server = server
        self._directory = directory
        self.devices = [
            Device(f"{self.tag}-{letter}", self.tag, directory, server) for letter in "abcdefgh"[:AGENTS]
        ]
        self._api = Link(server.port, frames=False)
        self.met: Counter[str] = Counter()  # faults that happened, by kind

    async def start(self) -> None:
        await self._api.start()
        for device in self.devices:
            await device.join()

    async def stop(self) -> None:
        await self._api.stop()
        for device in self.devices:
            await device.leave()

    # --- an episode -------------------------------------------------------------------------------------------

    async def play(self, scenario: Scenario) -> History:
        """Run it to its end and collect what was seen."""
        began = time.time()
        plays = [_Play(self, scenario.number, index, task) for index, task in enumerate(scenario.tasks)]
        waited = [await self._within("devices to be online", self._all_online)]
        over = asyncio.Event()
        faults = [asyncio.create_task(self._suffer(fault, over)) for fault in scenario.faults]
        waited += await asyncio.gather(*(play.run() for play in plays))
        over.set()
        await asyncio.gather(*faults)
        waited.append(await self._within("the end of every task", lambda: self._all_ended(plays)))
        waited.append(await self._within("devices to be back online", self._all_online))
        waited.append(await self._within("disks and processes to be clean", lambda: self._all_clean(plays)))
        waited += [await play.last_look() for play in plays]
        return await asyncio.to_thread(
            self._collect, scenario.number, plays, began, list(filter(None, waited))
        )

    def owner(self, key: str, wanted: dict[str, object]) -> Owner:
        return Owner(self._server.client(self._api.port), self._server.client(), key, wanted)

    def evidence(self, nonce: str) -> Path:
        return self._directory / f"{nonce}.evidence"

    # --- faults -----------------------------------------------------------------------------------------------

    async def _suffer(self, fault: PlannedFault, over: asyncio.Event) -> None:
        await asyncio.sleep(fault.at)
        if fault.kind in ("answer lost", "request cut off"):
            await self._cut_call(fault, over)
            return
        device = self.devices[fault.target]
        async with device.faulty:
            met = device.link.faults_met
            await _FAULTS[fault.kind](device, fault)
            device.link.heal()
            if fault.kind not in _CONDITIONAL or device.link.faults_met > met:
                self.met[fault.kind] += 1

    async def _cut_call(self, fault: PlannedFault, over: asyncio.Event) -> None:
        """Break the client's next call that changes something, if there is one yet."""
        met = self._api.faults_met
        if fault.kind == "answer lost":
            self._api.cut("down", 0)
        else:
            self._api.cut("up", fault.amount)
        while self._api.faults_met == met and not over.is_set():
            await asyncio.sleep(0.1)
        self.met[fault.kind] += self._api.faults_met > met
        if over.is_set():
            self._api.heal()

    # --- waiting ----------------------------------------------------------------------------------------------

    async def _within(self, what: str, condition: Callable[[], Awaitable[str]]) -> str:
        """Wait until the condition has no objection; else what was waited for, and its last objection."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            try:
                objection = await condition()
            except NoAnswer as error:
                objection = str(error)
            if not objection:
                return ""
            if time.monotonic() > deadline:
                return f"{what}: {objection}"
            await asyncio.sleep(0.1)

    async def _all_online(self) -> str:
        for device in self.devices:
            device.revive()
            answer = await self._server.client().call("GET", f"devices/{device.name}/status")
            if answer.code != 200 or not answer.data["is_online"]:
                return f"{device.name} is not online"
        return ""

    async def _all_ended(self, plays: "list[_Play]") -> str:
        rows = await asyncio.to_thread(
            lambda: [row for play in plays for row in self._server.database().tasks(play.nonce)]
        )
        return next((f"{row}" for row in rows if not row.is_terminal), "")

    async def _all_clean(self, plays: "list[_Play]") -> str:
        return await asyncio.to_thread(self._untidy, plays)

    def _untidy(self, plays: "list[_Play]") -> str:
        for device in self.devices:
            for item in device.outbox():
                return f"{device.name} still holds {item}"
        for play in plays:
            for run in evidence.executions(self.evidence(play.nonce)):
                if run.is_alive:
                    return f"{play.nonce} still runs: {run}"
        return ""

    # --- collecting -------------------------------------------------------------------------------------------

    def _collect(self, number: int, plays: "list[_Play]", began: float, unsettled: list[str]) -> History:
        database = self._server.database()
        for device in self.devices:
            unsettled += [f"{device.name} to stay: it exited with {code}" for code in device.exits]
            device.exits.clear()
        stories = tuple(play.story(database) for play in plays)
        tasks = [story.row.id for story in stories if story.row is not None]
        attempts = [attempt.id for story in stories for attempt in story.attempts]
        return History(
            number=number,
            lease_s=LEASE_S,
            stories=stories,
            changes=database.changes([*tasks, *attempts]),
            capacities=tuple(database.capacity(device.name) for device in self.devices),
            outages=tuple(item for device in self.devices for item in device.outages if item.until > began),
            troubles=tuple(item for item in list(self._server.troubles) if item.until > began),
            on_disk=tuple(item for device in self.devices for item in device.on_disk),
            # A result that is just on its way is none; one that was waited for in vain is.
            undelivered=tuple(item for device in self.devices for item in device.outbox() if unsettled),
            unsettled=tuple(unsettled),
        )


class _Play:
    """One planned task being played."""

    def __init__(self, lane: Lane, number: int, index: int, plan: PlannedTask) -> None:
        self.nonce = f"{number}.{index}"
        self._plan = plan
        self._file = lane.evidence(self.nonce)
        argv = evidence.command(self._file, self.nonce, plan.seconds, plan.exit_code)
        self._owner = lane.owner(f"torture-{self.nonce}", body(plan, self.nonce, lane.tag, argv))

    async def run(self) -> str:
        """From the submission to the last end the owner waits for; what was waited for in vain, if anything."""
        await asyncio.sleep(self._plan.at)
        try:
            await self._owner.submit()
            if self._owner.task_id:
                await asyncio.gather(self._follow(), self._cancel(), self._submit_again())
        except (NoAnswer, TimeoutError) as error:
            return f"the end of {self.nonce}: {error!r}"
        return ""

    async def last_look(self) -> str:
        """Once more, when all is quiet."""
        try:
            if self._owner.task_id:
                await self._owner.look()
        except NoAnswer as error:
            return f"a last look at {self.nonce}: {error}"
        return ""

    async def _follow(self) -> None:
        async with asyncio.timeout(SETTLE_S):
            status = await self._until_terminal()
            if self._plan.retries and status in _RETRYABLE:
                await self._owner.retry()
                await self._until_terminal()

    async def _until_terminal(self) -> str:
        while not (seen := await self._owner.look()).is_terminal:
            await asyncio.sleep(LOOK_S)
        return seen.status

    async def _cancel(self) -> None:
        if self._plan.cancel_after is not None:
            await asyncio.sleep(self._plan.cancel_after)
            await self._owner.cancel()

    async def _submit_again(self) -> None:
        if self._plan.submits_twice:
            await self._owner.submit_again()

    def story(self, database: evidence.Database) -> Story:
        """Everything that is known of the task now."""
        rows = database.tasks(self.nonce)
        row = next((row for row in rows if row.id == self._owner.task_id), rows[0] if rows else None)
        return Story(
            nonce=self.nonce,
            task_type=self._plan.kind,
            timeout_s=self._plan.timeout_s,
            max_retries=self._plan.max_retries,
            at_most_once=self._plan.at_most_once,
            expected=expected(self._plan, self.nonce),
            asked=tuple(sorted(self._owner.asked, key=lambda item: item.sent_at)),
            seen=tuple(self._owner.seen),
            copies=len(rows),
            row=row,
            attempts=database.attempts(row.id) if row else (),
            executions=evidence.executions(self._file),
        )


# --- the faults of a device ---------------------------------------------------------------------------------------

_Fault = Callable[[Device, PlannedFault], Awaitable[None]]
_CONDITIONAL = frozenset({"reset amid a frame", "reset after processing", "frames sent twice"})


async def _reset(device: Device, _: PlannedFault) -> None:
    device.link.reset()


async def _refuse(device: Device, fault: PlannedFault) -> None:
    await device.away("refuse", fault.seconds, device.link.refuse, device.link.heal)


async def _silent(device: Device, fault: PlannedFault) -> None:
    await device.away(
        "stall", fault.seconds, lambda: device.link.stall("up", "down"), lambda: _end(device, fault)
    )


async def _silent_up(device: Device, fault: PlannedFault) -> None:
    await device.away("stall", fault.seconds, lambda: device.link.stall("up"), lambda: _end(device, fault))


async def _silent_down(device: Device, fault: PlannedFault) -> None:
    device.link.stall("down")
    await asyncio.sleep(fault.seconds)
    _end(device, fault)


def _end(device: Device, fault: PlannedFault) -> None:
    """A silence ends with everything arriving late, or with a reset and nothing of it arriving."""
    if fault.amount % 2:
        device.link.reset()
    device.link.heal()


async def _slow(device: Device, fault: PlannedFault) -> None:
    device.link.delay(0.3)
    await asyncio.sleep(fault.seconds)


async def _cut_up(device: Device, fault: PlannedFault) -> None:
    device.link.cut("up", fault.amount)
    await asyncio.sleep(fault.seconds)


async def _cut_down(device: Device, fault: PlannedFault) -> None:
    device.link.cut("down", 0)
    await asyncio.sleep(fault.seconds)


async def _replay(device: Device, fault: PlannedFault) -> None:
    device.link.replay("up")
    device.link.replay("down")
    await asyncio.sleep(fault.seconds)


async def _kill(device: Device, fault: PlannedFault) -> None:
    await device.die(fault.seconds)


async def _stop(device: Device, fault: PlannedFault) -> None:
    await device.freeze(fault.seconds)


_FAULTS: dict[str, _Fault] = {
    "reset": _reset,
    "refused for a while": _refuse,
    "silent both ways": _silent,
    "silent towards the server": _silent_up,
    "silent towards the agent": _silent_down,
    "slow": _slow,
    "reset amid a frame": _cut_up,
    "reset after processing": _cut_down,
    "frames sent twice": _replay,
    "agent killed": _kill,
    "agent stopped past its lease": _stop,
}

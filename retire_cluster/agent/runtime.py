"""The agent as a whole: finds out what the device is, and keeps it connected until told to stop."""

import asyncio
import contextlib
import logging
import secrets
import shutil
import socket
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from retire_cluster import __version__
from retire_cluster.agent import guess
from retire_cluster.agent.address import Address, Link, Trust, choose_link
from retire_cluster.agent.backoff import Backoff
from retire_cluster.agent.care import Care
from retire_cluster.agent.config import MAX_TAGS, AgentConfig, check_task_types
from retire_cluster.agent.errors import AgentExit, ConfigError, ExitCode
from retire_cluster.agent.execution import custom, handlers
from retire_cluster.agent.host import Host
from retire_cluster.agent.identity import Identity, IdentityStore, new_device_id
from retire_cluster.agent.link import LinkError, OtherCertificate, connect
from retire_cluster.agent.outbox import Outbox
from retire_cluster.agent.repin import proven_pin
from retire_cluster.agent.session import Ending, Session
from retire_cluster.agent.verdict import Verdict, judge
from retire_cluster.agent.vitals import Vitals, cancel_and_wait
from retire_cluster.agent.workbench import Workbench
from retire_cluster.protocol.messages import PROTOCOL_VERSION, Goodbye, LinkStored, Register, Welcome

RENEW = "the device's capabilities changed"
RENEWED = "the gateway's certificate was renewed"
TELL_AGAIN = 60  # tries: about each 20 minutes
MAX_REASONS = 32

logger = logging.getLogger(__name__)


class Runtime:
    """One agent. run() until stop(); usable inside any event loop, installs no signal handlers."""

    def __init__(self, config: AgentConfig, host: Host | None = None) -> None:
        self._config = config
        self._host = host or Host()
        self._run_id = secrets.token_hex(16)
        self._stopping = asyncio.Event()
        self._session: Session | None = None
        self._store = IdentityStore(config.state_dir)
        self._backoff = Backoff(config.timing.first_retry_s, config.timing.longest_retry_s)
        self._has_joined = False
        self._renewed_pin: str | None = None  # knows more than any token that was given before
        self._was_welcome = False  # ever, since this start
        self._told: dict[
            str, int
        ] = {}  # reasons of this outage, and how often the pause before them was the longest

    async def run(self) -> None:
        """Return after stop(). Raises AgentExit when the gateway refuses for good or nothing can be done."""
        outbox = await asyncio.to_thread(Outbox, self._config.state_dir)
        try:
            self._identity = self._load_identity()
            self._check_links()
            await self._run(outbox)
        finally:
            outbox.close()

    def stop(self) -> None:
        """Begin to stop: hand the attempts back, say goodbye, close. Call it in the event loop."""
        self._stopping.set()

    # --- for those that run it for a purpose of their own ---------------------------------------------------

    def prepare(self, workbench: Workbench) -> None:
        """Called before the first connection."""

    async def joined(self, session: Session) -> None:
        """Called at each welcome, once what it brought is on disk."""

    async def obey(self, verdict: Verdict, address: Address) -> None:
        """Do what the end of a connection asks for. Raises AgentExit where it is final."""
        returns = self._may_return(verdict)
        if verdict.forget:
            await asyncio.to_thread(self._remember, self._identity.forgotten())
        if returns:
            logger.info("%s: an operator removed this device; it joins again, as --rejoin asks", address)
            return
        if verdict.exit_code is not None:
            raise AgentExit(verdict.exit_code, verdict.reason)
        if verdict.forget and self._config.find_token() is None:
            raise AgentExit(
                ExitCode.REFUSED,
                f"{verdict.reason}; start with --token to join again (the gateway prints it)",
            )
        delay = 0.0 if verdict.reason == RENEW else max(verdict.least_delay_s, self._backoff.next())
        self._tell(f"{address}: {verdict.reason}", delay, verdict.least_delay_s)
        await asyncio.sleep(delay)

    def _may_return(self, verdict: Verdict) -> bool:
        """Whether --rejoin answers this: it is for a removal before this start, not for one while we work."""
        shown = self._identity.secret is not None
        asked = self._config.rejoin and not self._was_welcome and self._config.find_token() is not None
        return verdict.exit_code is ExitCode.REVOKED and shown and asked

    async def _run(self, outbox: Outbox) -> None:
        config = self._config
        self._vitals = vitals = Vitals(self._host, config.data_dir, config.internet_probes)
        internet = asyncio.create_task(vitals.find_internet())
        detection = asyncio.create_task(vitals.detect())
        try:
            own, problems = await custom.discover(config.handlers)
            await detection
            await self._work(outbox, internet, own, problems)
        finally:  # also when the agent does not come so far as to connect
            await cancel_and_wait(internet, detection)

    async def _work(
        self,
        outbox: Outbox,
        internet: "asyncio.Task[None]",
        own: "dict[str, handlers.Handler]",
        problems: list[str],
    ) -> None:
        config, vitals = self._config, self._vitals
        for problem in problems:
            logger.warning("%s", problem)
        offered = handlers.builtin(vitals.snapshot, allow_private_http=config.allow_private_http) | own
        wanted = check_task_types(config.task_types, offered) or tuple(offered)
        slots = config.slots or vitals.capabilities.cpu_count or 1
        directory = config.state_dir / "work"
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)  # what a crash left
        chosen = {name: offered[name] for name in wanted}
        self._workbench = Workbench(outbox, chosen, slots, config.timing, directory)
        self.prepare(self._workbench)
        care = Care(config.limits, vitals.metrics, self._workbench.pause)
        await care.begin()
        chores = [internet, asyncio.create_task(self._workbench.maintain())]
        chores.append(asyncio.create_task(self._workbench.age()))
        chores.append(asyncio.create_task(care.watch(config.timing.care_s)))
        main = [asyncio.create_task(self._stay_connected(internet)), asyncio.create_task(self._await_stop())]
        try:
            await _first_to_end(main, chores)
        finally:
            try:
                await cancel_and_wait(*main, *chores)
            finally:  # also when the agent ends with an error, such as having been removed
                await self._workbench.end_work()

    # --- identity and links ---------------------------------------------------------------------------------

    def _load_identity(self) -> Identity:
        """The stored identity, or a new one, stored before it is used. Raises AgentExit."""
        wanted = self._config.device_id
        stored = self._store.load()
        if stored is not None and wanted in (None, stored.device_id):
            return stored
        if stored is not None:
            logger.info("the device was %s and joins anew as %s", stored.device_id, wanted)
        identity = Identity(wanted or new_device_id(socket.gethostname()))
        try:
            self._store.save(identity)
        except OSError as error:
            reason = (
                f"cannot write to {self._config.state_dir}: {error.strerror}; choose another with --data-dir"
            )
            raise AgentExit(ExitCode.USAGE, reason) from None
        return identity

    def _check_links(self) -> None:
        """Refuse at the start what could never work."""
        token = self._config.find_token()
        for address in self._config.join:
            if self._identity.secret is None and token is None and not address.is_loopback:
                reason = f"--token is needed to join {address}: the gateway prints it when it starts"
                raise AgentExit(ExitCode.USAGE, reason)
            self._link(address, token)

    def _link(self, address: Address, token: str | None) -> Link:
        """A token given now knows more than what was stored at joining."""
        said = Trust() if token is None or self._renewed_pin else Trust.of_token(token)
        trust = said if said != Trust() else self._identity.trust
        try:
            return choose_link(
                address, trust, ca_file=self._config.ca_file, insecure_plain=self._config.insecure_plain
            )
        except ConfigError as error:
            raise AgentExit(ExitCode.USAGE, str(error)) from None

    async def _trust_renewed(self, address: Address) -> bool:
        """Whether the certificate shown there is a new one of the same cluster; then it is trusted from now on."""
        identity = self._identity
        if identity.secret is None:
            return False
        pin = await proven_pin(address, identity.device_id, identity.secret, self._config.timing.connect_s)
        if pin is None:
            return False
        logger.info("the gateway %s has a new certificate and proved that it knows this device", address)
        self._renewed_pin = pin
        await asyncio.to_thread(self._remember, replace(identity, pin=pin))
        return True

    def _remember(self, identity: Identity, link_no: int | None = None) -> None:
        """Store the identity, with a new link number. A full disk costs a credential at the next start, which is
        said, but not the work now; the number shown is always one that is on disk."""
        is_new = identity != self._identity
        self._identity = identity
        numbered = identity if link_no is None else replace(identity, link_no=link_no)
        try:
            self._store.save(numbered)
        except OSError as error:
            if is_new:
                logger.warning(
                    "cannot store the device's credential (%s): it is lost when this agent ends",
                    error.strerror,
                )
            else:
                logger.warning("cannot store the link number (%s); the last one stays good", error.strerror)
        else:
            self._identity = numbered

    # --- staying connected ----------------------------------------------------------------------------------

    async def _stay_connected(self, internet: "asyncio.Task[None]") -> None:
        """Connect, again and again, to each address in turn."""
        loop = asyncio.get_running_loop()
        turn = 0
        while not self._stopping.is_set():
            address = self._config.join[turn % len(self._config.join)]
            self._has_joined = False
            began = loop.time()
            ending = await self._try(address, internet)
            if self._stopping.is_set():
                return
            verdict = judge(ending, self._config.timing)
            if self._has_joined and loop.time() - began >= self._config.timing.stable_s:
                self._backoff.reset()
            stays = verdict.same_address and (self._has_joined or verdict.reason == RENEWED)
            turn += 0 if stays else 1
            await self.obey(verdict, address)

    async def _try(self, address: Address, internet: "asyncio.Task[None]") -> Ending:
        """One connection, until it ends. A defect costs the connection and is told; the agent goes on."""
        try:
            return await self._visit(address, internet)
        except AgentExit:
            raise
        except Exception as error:
            logger.exception("a defect of this agent ended the connection")
            return f"an internal error: {error}"

    async def _visit(self, address: Address, internet: "asyncio.Task[None]") -> Ending:
        """One connection to the address, until it ends."""
        token = await asyncio.to_thread(self._config.find_token)
        if self._identity.secret is None and token is None:
            return f"there is no join token yet: start the gateway (it writes {self._config.data_dir}/join-token)"
        link = self._link(address, token)
        try:
            connection = await connect(address, link, self._config.timing.connect_s)
        except OtherCertificate as error:
            return RENEWED if await self._trust_renewed(address) else str(error)
        except LinkError as error:
            return str(error)
        session = Session(connection, self._workbench, self._vitals.metrics, self._config.timing)
        register = await self._register(token)

        async def on_welcome(welcome: Welcome) -> None:
            await self._welcomed(welcome, address, link)
            if welcome.link_no == self._identity.link_no:
                session.send(LinkStored(link_no=welcome.link_no))
            await self.joined(session)
            if not register.capabilities.has_internet:
                internet.add_done_callback(renew)

        def renew(_: object) -> None:
            if self._vitals.capabilities.has_internet:
                session.end(RENEW)

        self._session = session
        try:
            return await session.run(register, on_welcome)
        finally:
            self._session = None
            internet.remove_done_callback(renew)

    async def _register(self, token: str | None) -> Register:
        config, capabilities = self._config, self._vitals.capabilities
        is_joining = self._identity.secret is None
        guessed = guess.tags(capabilities, termux="TERMUX_VERSION" in self._host.environ)
        return Register(
            protocol=PROTOCOL_VERSION,
            device_id=self._identity.device_id,
            run_id=self._run_id,
            agent_version=__version__,
            capabilities=capabilities,
            secret=self._identity.secret,
            join_token=token if is_joining else None,
            rejoin=config.rejoin and is_joining,
            role=config.role or guess.role(capabilities),
            tags=tuple(dict.fromkeys((*config.tags, *guessed)))[:MAX_TAGS],
            task_types=tuple(self._workbench.handlers),
            slots=self._workbench.slots,
            max_memory_mb=config.max_memory_mb,
            metrics=await self._vitals.metrics(),
            held=self._workbench.held(),
            paused_reason=self._workbench.paused_reason,
            link_no=self._identity.link_no,
        )

    async def _welcomed(self, welcome: Welcome, address: Address, link: Link) -> None:
        """Store a new credential before anything else, and tell the person who waits."""
        self._has_joined = self._was_welcome = True
        known = self._identity
        if welcome.secret is not None:
            known = replace(
                known,
                secret=welcome.secret,
                incarnation=welcome.incarnation,
                pin=link.pin,
                plain=not link.tls,
            )
        if known != self._identity or welcome.link_no is not None:
            await _to_the_end(asyncio.to_thread(self._remember, known, welcome.link_no))
        self._told.clear()
        types = ", ".join(self._workbench.handlers)
        logger.info(
            "joined as %s at %s (%d slots; %s)", welcome.device_id, address, self._workbench.slots, types
        )

    def _tell(self, reason: str, delay: float, least: float) -> None:
        """Each try while the pauses grow; then how long they are, once a reason, and again only now and then.

        An outage of a week must not fill a disk.
        """
        if not self._backoff.is_longest:
            logger.info("%s (next try in %.1f s)", reason, delay)
            return
        if len(self._told) >= MAX_REASONS:
            self._told.clear()
        times = self._told[reason] = self._told.get(reason, 0) + 1
        low, high = max(least, self._backoff.longest / 2), max(least, self._backoff.longest)
        every = f"{high:g}" if low == high else f"{low:g} to {high:g}"
        level = logging.INFO if times % TELL_AGAIN == 1 else logging.DEBUG
        logger.log(level, "%s (trying again every %s s)", reason, every)

    async def _await_stop(self) -> None:
        """Wait for stop(), then leave politely: work ends first, so that what is handed back is over."""
        await self._stopping.wait()
        await self._workbench.end_work()
        if self._session is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._config.timing.farewell_s):
                    await self._session.farewell(Goodbye(code="stopping", reason="the agent was stopped"))


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Await work that even a stop must not cut short: a secret that is not stored locks the device out."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


async def _first_to_end(main: "list[asyncio.Task[None]]", chores: "list[asyncio.Task[None]]") -> None:
    """Return when a main task is done; raise what any of the tasks raises, as soon as it does."""
    pending = {*main, *chores}
    while pending and not any(task.done() for task in main):
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

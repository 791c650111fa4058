"""What needs somebody: each a sentence with its reason, and one link that leads to the fix."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from django.urls import reverse

from retire_cluster import __version__
from retire_cluster.dashboard import words
from retire_cluster.dashboard.fleet import Card
from retire_cluster.protocol.states import Platform
from tasks.explain import Misfit

SHOWN = 8
LOW_BATTERY = 20.0  # percent, while it is not charging
# °C. A phone measures its battery, which ages from 45 on; others their processor.
HOT = {Platform.ANDROID.value: 45.0}
HOT_ELSEWHERE = 80.0


@dataclass(frozen=True, slots=True)
class Note:
    """`level` is bad or warn; `about` links to what it is about, `label` is the word on the button to `link`."""

    level: str
    about: str
    text: str
    reason: str
    link: str
    label: str
    moment: object = None


def notes(cards: Sequence[Card], misfits: Iterable[Misfit]) -> list[Note]:
    """Everything, what is worst first."""
    found = [*_of_tasks(misfits), *(note for card in cards for note in _of(card))]
    return sorted(found, key=lambda note: note.level != "bad")


def _of_tasks(misfits: Iterable[Misfit]) -> Iterator[Note]:
    for misfit in misfits:
        link = (
            f"{reverse('dashboard:tasks')}?{urlencode({'status': 'queued', 'task_type': misfit.task_type})}"
        )
        text = f"{words.counted(misfit.count, 'task')} of type {misfit.task_type} can run nowhere"
        yield Note("bad", "", text, misfit.reason, link, "Show them")


def _of(card: Card) -> Iterator[Note]:
    name, link = card.device.pk, reverse("dashboard:device", args=[card.device.pk])
    if not card.device.online:
        reason = card.device.status_reason or "nothing is known about why"
        gone = card.device.disconnected_at
        yield Note("bad", name, "went offline" if gone else "is offline", reason, link, "Open", gone)
        return
    if card.device.cordoned:
        words_ = card.device.cordon_reason or "no reason was given"
        yield Note("warn", name, "is out of service", words_, link, "Open")
    elif card.device.paused_reason:
        yield Note("warn", name, "is paused", card.device.paused_reason, link, "Open")
    yield from _of_its_health(card, name, link)
    if card.device.agent_version != __version__:
        known = card.device.agent_version or "of an unknown version"
        reason = f"its agent is {known}, the server {__version__}; its page has the line that updates it"
        yield Note("warn", name, "runs another version", reason, link, "Open")


def _of_its_health(card: Card, name: str, link: str) -> Iterator[Note]:
    limit = HOT.get(card.device.platform, HOT_ELSEWHERE)
    if card.temperature is not None and card.temperature >= limit:
        yield Note("warn", name, f"is hot: {card.temperature:.0f} °C", f"above {limit:.0f} °C", link, "Open")
    if card.battery is not None and card.battery < LOW_BATTERY and not card.charging:
        reason = f"below {LOW_BATTERY:.0f} % and not charging"
        yield Note("warn", name, f"has {card.battery:.0f} % battery left", reason, link, "Open")

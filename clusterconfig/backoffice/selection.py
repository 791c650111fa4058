"""Actions on chosen rows: one call of a service each, and what became of every row."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.contrib import messages
from django.contrib.admin import ModelAdmin, helpers
from django.core.exceptions import ObjectDoesNotExist
from django.db import InterfaceError, OperationalError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from clusterconfig import permissions
from clusterconfig.audit import Actor

MOST_ROWS = 1000  # in one request; each costs a transaction
MOST_REASONS = 10  # said in one message
CONFIRMED = "confirmed"
Act = Callable[[Any, Actor], Any]

logger = logging.getLogger("retire_cluster.admin")


class Refused(Exception):
    """A service has nothing to do for a row, for the reason given."""


@dataclass(slots=True)
class Outcome:
    """What the service returned for each row it served, and why it did not serve the others."""

    done: list[Any] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    @property
    def reasons(self) -> str:
        more = len(self.refusals) - MOST_REASONS
        return "; ".join([*self.refusals[:MOST_REASONS], *([f"and {more} more"] if more > 0 else [])])


def apply(
    request: HttpRequest, rows: QuerySet[Any], act: Act, refusals: tuple[type[Exception], ...] = ()
) -> Outcome:
    """Do it for each row, by its key, in a transaction of its own: one that fails takes no other with it."""
    outcome, actor = Outcome(), permissions.staff_actor(request)
    expected: tuple[type[Exception], ...] = (Refused, *refusals)
    found = list(rows[: MOST_ROWS + 1])
    if len(found) > MOST_ROWS:
        return Outcome(refusals=[f"choose at most {MOST_ROWS:,} rows"])
    for row in found:
        try:
            outcome.done.append(act(row.pk, actor))
        except ObjectDoesNotExist:
            outcome.refusals.append(f"{row}: it is not there any more")
        except expected as refusal:
            outcome.refusals.append(f"{row}: {refusal}")
        except (OperationalError, InterfaceError):
            raise  # the database is away: the next row would only wait for it again
        except Exception:
            # A defect met by one row keeps nobody from hearing what became of the rows before it.
            logger.exception("an action on one row failed", extra={"action": "admin"})
            outcome.refusals.append(f"{row}: the server made a mistake, its log says which")
    return outcome


def say(request: HttpRequest, outcome: Outcome, done: str) -> None:
    """Tell what became of the rows: `3 cancelled`, and of the others why they were not."""
    if outcome.done or not outcome.refusals:
        messages.success(request, f"{len(outcome.done)} {done}")
    if outcome.refusals:
        messages.error(request, f"{len(outcome.refusals)} not {done}: {outcome.reasons}")


def confirmation(
    page: "ModelAdmin[Any]", request: HttpRequest, rows: QuerySet[Any], question: str
) -> HttpResponse | None:
    """A page that asks before the action goes on; None once the answer was yes."""
    if CONFIRMED in request.POST:
        return None
    details = {
        "rows": rows[:MOST_ROWS],
        "question": question,
        "action": request.POST["action"],
        "checkbox": helpers.ACTION_CHECKBOX_NAME,
        "confirmed": CONFIRMED,
    }
    return answer(page, request, "admin/confirm_action.html", "Are you sure?", details)


def answer(
    page: "ModelAdmin[Any]", request: HttpRequest, template: str, title: str, details: Mapping[str, Any]
) -> HttpResponse:
    """A page of the admin about rows of a list."""
    context = {**page.admin_site.each_context(request), "opts": page.opts, "title": title, **details}
    return TemplateResponse(request, template, context)

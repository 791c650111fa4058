"""Settings: the configuration with its history, API keys, join tokens. For administrators only."""

import dataclasses
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from clusterconfig import keys, permissions, registry, tokens
from clusterconfig import services as config
from clusterconfig.forms import KeyForm
from clusterconfig.keys import Scope
from clusterconfig.models import ApiKey, ConfigChange, JoinToken
from clusterconfig.serializers import key_row, token_row
from retire_cluster import db
from retire_cluster.dashboard import access, filtering
from retire_cluster.dashboard.access import Refusal, action, staff_form
from retire_cluster.dashboard.shell import show

CHANGES = 20
UNITS = {"interval": ", seconds", "timeout": ", seconds", "reconnect_grace": ", seconds"}
ROWS = 100  # keys or tokens


@staff_form
def settings(request: HttpRequest) -> HttpResponse:
    """All of it; a section that is sent is validated and stored as a whole."""
    if request.method == "POST":
        return _save(request)
    return _page(request)


def _save(request: HttpRequest) -> HttpResponse:
    name = request.POST.get("section", "")
    if name not in registry.SECTIONS:
        return _page(request, problems={"section": "there is no such section"}, status=400)
    given = {key: request.POST.get(f"{name}.{key}", "") for key in _keys(name)}
    values = {key: filtering.whole(text, otherwise=text) for key, text in given.items()}
    version = filtering.whole(request.POST.get("version", ""), otherwise=None)
    try:
        config.change(
            name,
            values,
            actor=permissions.staff_actor(request),
            now=db.now(),
            versions=None if version is None else [version],
        )
    except config.InvalidError as error:
        problems = {problem.field: problem.reason for problem in error.problems}
        return _page(request, problems=problems, given={name: given}, status=400)
    except config.StaleError:
        reason = (
            "somebody changed this section meanwhile; look at what you wrote, and save again to have it so"
        )
        return _page(request, problems={name: reason}, given={name: given}, status=409)
    messages.success(request, f"The section {name} was saved; the devices are told.")
    return redirect("dashboard:settings")


def _page(
    request: HttpRequest,
    *,
    problems: dict[str, str] | None = None,
    given: dict[str, dict[str, str]] | None = None,
    status: int = 200,
    **more: Any,
) -> HttpResponse:
    now = db.now()
    return show(
        request,
        "dashboard/settings.html",
        topics="config",
        status=status,
        refresh=reverse("dashboard:settings"),
        sections=[
            _section(section, problems or {}, (given or {}).get(name, {}))
            for name, section in config.sections().items()
        ],
        problems=problems or {},
        changes=ConfigChange.objects.order_by("-id")[:CHANGES],
        keys=[key_row(row, now=now) for row in ApiKey.objects.order_by("-created_at")[:ROWS]],
        tokens=[token_row(row, now=now) for row in JoinToken.objects.order_by("-created_at")[:ROWS]],
        **{"key_form": KeyForm(), **more},
    )


def _keys(name: str) -> list[str]:
    return [item.name for item in dataclasses.fields(registry.SECTIONS[name])]


def _section(section: config.Section, problems: dict[str, str], given: dict[str, str]) -> dict[str, Any]:
    cls = registry.SECTIONS[section.name]
    return {
        "name": section.name,
        "version": section.version,
        "about": cls.__doc__,
        "problem": problems.get(section.name, ""),
        "entries": [
            {
                "name": f"{section.name}.{item.name}",
                "label": f"{item.name.replace('_', ' ')}{UNITS.get(item.name, '')}",
                "value": given.get(item.name, section.values[item.name]),
                "default": item.default,
                "low": item.metadata["low"],
                "high": item.metadata["high"],
                "problem": problems.get(f"{section.name}.{item.name}", ""),
            }
            for item in dataclasses.fields(cls)
        ],
    }


# --- buttons --------------------------------------------------------------------------------------------------


@action(Scope.ADMIN)
def make_key(request: HttpRequest) -> HttpResponse:
    """Make a key and show it, once."""
    form = KeyForm(request.POST)
    if not form.is_valid():
        return _page(request, key_form=form, status=400)
    new = form.new
    secret, row = keys.create(
        new.name,
        new.scopes,
        now=db.now(),
        expires_at=new.expires_at,
        task_types=new.task_types,
        rate_limits=new.rate_limits,
        actor=permissions.staff_actor(request),
    )
    return _page(request, new_key=secret, new_key_name=row.name)


@action(Scope.ADMIN)
def revoke_key(request: HttpRequest, key_id: UUID) -> HttpResponse:
    """End a key for good."""
    try:
        row = keys.revoke(key_id, now=db.now(), actor=permissions.staff_actor(request))
    except ApiKey.DoesNotExist:
        raise Refusal("There is no such key.") from None
    messages.success(request, f"The key {row.name} opens nothing any more.")
    return access.back(request, "dashboard:settings")


@action(Scope.ADMIN)
def revoke_token(request: HttpRequest, token_id: str) -> HttpResponse:
    """Admit no further device with a token."""
    try:
        row = tokens.revoke(token_id, now=db.now(), actor=permissions.staff_actor(request))
    except JoinToken.DoesNotExist:
        raise Refusal("There is no such token.") from None
    messages.success(request, f"The token {row.name} admits no device any more.")
    return access.back(request, "dashboard:settings")

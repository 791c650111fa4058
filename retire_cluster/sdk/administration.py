"""The cluster as a whole, its configuration, keys, join tokens and audit trail."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from retire_cluster.sdk.calls import Answer, Call, Calls, envelope, get, read, segment
from retire_cluster.sdk.errors import UnexpectedAnswer
from retire_cluster.sdk.listing import Listing
from retire_cluster.sdk.models import (
    AuditEntry,
    ClusterConfig,
    ClusterMetrics,
    ClusterStatus,
    Health,
    JoinToken,
    Key,
    NewJoinToken,
    NewKey,
    Section,
    Ticket,
)

Words = str | Sequence[str]
Configuration = dict[str, dict[str, Any]]


class ClusterCalls:
    """The part of the client about the cluster as a whole."""

    _calls: Calls

    def health(self) -> Health:
        """Whether each part works. An unhealthy cluster is an answer, no error."""
        response = self._calls.send(get(f"{self._calls.root}/health"), as_is=True)
        return read(Health, envelope(response))

    def index(self) -> dict[str, str]:
        """Addresses of what there is, by name."""
        links: dict[str, str] = self._calls.answer(get("")).member("links")
        return links

    def cluster_status(self) -> ClusterStatus:
        """Devices, resources, and the server."""
        return self._calls.answer(get("/cluster/status")).to(ClusterStatus)

    def metrics(self) -> ClusterMetrics:
        """What is measured: use of devices, queue, performance."""
        return self._calls.answer(get("/cluster/metrics")).to(ClusterMetrics)

    def cluster_config(self) -> ClusterConfig:
        """The settings any key may see."""
        return self._calls.answer(get("/cluster/config")).to(ClusterConfig)


class ConfigCalls:
    """The part of the client about the configuration; for administrators."""

    _calls: Calls

    def config(self) -> Configuration:
        """All sections with their settings."""
        return self._calls.answer(get("/config")).members()

    def config_section(self, name: str) -> Section:
        """A section and its version."""
        return _section(name, self._calls.answer(get(f"/config/{segment(name)}")))

    def change_config(self, name: str, changes: Mapping[str, Any], *, etag: str | None = None) -> Section:
        """Change settings of a section; the others stay.

        With the `etag` of a section that was read, raises PreconditionFailed if somebody changed it since.
        """
        headers = {"If-Match": etag} if etag else {}
        path = f"/config/{segment(name)}"
        call = Call("PUT", path, body=dict(changes), headers=headers, repeatable=not etag)
        return _section(name, self._calls.answer(call))

    def reset_config(self) -> Configuration:
        """Set everything to its default; all sections."""
        return self._calls.answer(Call("POST", "/config/reset")).members()

    def audit(
        self,
        *,
        action: Words | None = None,
        actor: Words | None = None,
        target: Words | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Listing[AuditEntry]:
        """Who changed what, newest first; the history of the configuration too."""
        params = {"action": action, "actor": actor, "target": target, "since": since, "until": until}
        return Listing(self._calls, "/audit", AuditEntry, params, by_cursor=True)


class KeyCalls:
    """The part of the client about API keys and join tokens; for administrators."""

    _calls: Calls

    def keys(self) -> Listing[Key]:
        """All API keys, newest first, without their text."""
        return Listing(self._calls, "/keys", Key, {}, by_cursor=False)

    def key(self, key_id: str) -> Key:
        """One key, without its text."""
        return self._calls.answer(get(f"/keys/{segment(key_id)}")).to(Key)

    def create_key(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        task_types: Sequence[str] | None = None,
        rate_limits: str | None = None,
        expires_at: datetime | None = None,
        expires_in_seconds: int | None = None,
    ) -> NewKey:
        """A new key. Its text is in `key`, and nowhere else afterwards."""
        wanted = {
            "name": name,
            "scopes": list(scopes),
            "task_types": task_types,
            "rate_limits": rate_limits,
            "expires_at": expires_at,
            "expires_in_seconds": expires_in_seconds,
        }
        return self._calls.answer(Call("POST", "/keys", body=_body(wanted))).to(NewKey)

    def revoke_key(self, key_id: str, *, own: bool = False) -> Key:
        """Revoke it for good. The key that is used here only with `own`; else raises Conflict."""
        params = {"own": True} if own else {}
        # Revoking one's own key twice would fail: the second call has no valid key any more.
        call = Call("DELETE", f"/keys/{segment(key_id)}", params, repeatable=not own)
        return self._calls.answer(call).to(Key)

    def join_tokens(self) -> Listing[JoinToken]:
        """All join tokens, newest first, without their text."""
        return Listing(self._calls, "/join-tokens", JoinToken, {}, by_cursor=False)

    def join_token(self, token_id: str) -> JoinToken:
        """One token, without its text."""
        return self._calls.answer(get(f"/join-tokens/{segment(token_id)}")).to(JoinToken)

    def create_join_token(
        self,
        name: str,
        *,
        max_uses: int | None = None,
        role: str | None = None,
        tags: Sequence[str] | None = None,
        task_types: Sequence[str] | None = None,
        max_slots: int | None = None,
        expires_at: datetime | None = None,
        expires_in_seconds: int | None = None,
    ) -> NewJoinToken:
        """A new token, with the command to run on the device. Its text is nowhere else afterwards."""
        wanted = {
            "name": name,
            "max_uses": max_uses,
            "role": role,
            "tags": tags,
            "task_types": task_types,
            "max_slots": max_slots,
            "expires_at": expires_at,
            "expires_in_seconds": expires_in_seconds,
        }
        return self._calls.answer(Call("POST", "/join-tokens", body=_body(wanted))).to(NewJoinToken)

    def revoke_join_token(self, token_id: str) -> JoinToken:
        """It admits no further device; those that joined stay."""
        call = Call("DELETE", f"/join-tokens/{segment(token_id)}", repeatable=True)
        return self._calls.answer(call).to(JoinToken)

    def ws_ticket(self) -> Ticket:
        """Opens `/ws` once where no header can be sent: for a page in a browser. events() needs none."""
        return self._calls.answer(Call("POST", "/ws-tickets", repeatable=True)).to(Ticket)


def _section(name: str, answer: Answer) -> Section:
    etag = answer.headers.get("ETag")
    if etag is None:
        raise UnexpectedAnswer(f"the section {name} comes without its version")
    return Section(name, answer.members(), etag)


def _body(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What is given, as JSON takes it."""
    return {name: _plain(value) for name, value in wanted.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return list(value) if isinstance(value, (tuple, list, set, frozenset)) else value

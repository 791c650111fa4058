"""How the admin looks: django-unfold's settings. Its lists are grouped by what an operator wants to do."""

from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy


def icon(request: HttpRequest) -> str:
    return static("retire_cluster/icon.svg")


def style(request: HttpRequest) -> str:
    return static("retire_cluster/admin.css")


def may_see_users(request: HttpRequest) -> bool:
    return bool(request.user.has_perm("auth.view_user"))


def may_see_groups(request: HttpRequest) -> bool:
    return bool(request.user.has_perm("auth.view_group"))


def _list(title: str, symbol: str, page: str, **more: Any) -> dict[str, Any]:
    return {"title": title, "icon": symbol, "link": reverse_lazy(f"admin:{page}_changelist"), **more}


NAVIGATION: list[dict[str, Any]] = [
    {"items": [{"title": "Dashboard", "icon": "arrow_back", "link": "/", "active": False}]},
    {
        "title": "Work",
        "items": [
            _list("Tasks", "task", "tasks_task"),
            _list("Attempts", "replay", "tasks_attempt"),
            _list("Output", "terminal", "tasks_outputchunk"),
            _list("Requirement profiles", "rule", "tasks_profile"),
            _list("Idempotency keys", "content_copy", "tasks_idempotencykey"),
        ],
    },
    {
        "title": "Devices",
        "items": [
            _list("Devices", "devices", "devices_device"),
            _list("Presence", "sensors", "devices_presence"),
            _list("Measurements", "monitoring", "devices_metricssample"),
            _list("Pings", "network_ping", "devices_ping"),
            _list("Gateways", "router", "devices_gateway"),
        ],
    },
    {
        "title": "Configuration",
        "items": [
            _list("API keys", "key", "clusterconfig_apikey"),
            _list("Join tokens", "qr_code", "clusterconfig_jointoken"),
            _list("Sections", "settings", "clusterconfig_configsection"),
            _list("Changes", "history", "clusterconfig_configchange"),
            _list("Audit trail", "policy", "clusterconfig_auditentry"),
            _list("Stream tickets", "confirmation_number", "clusterconfig_streamticket"),
            _list("Cluster identity", "fingerprint", "clusterconfig_clusteridentity"),
        ],
    },
    {
        "title": "Events and counters",
        "items": [
            _list("Events", "bolt", "events_eventbatch"),
            _list("Counters", "tag", "tasks_tally"),
        ],
    },
    {
        "title": "Users",
        "items": [
            _list("Users", "person", "auth_user", permission=may_see_users),
            _list("Groups", "group", "auth_group", permission=may_see_groups),
        ],
    },
]

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Retire-Cluster",
    "SITE_HEADER": "Retire-Cluster",
    "SITE_SUBHEADER": "Administration",
    "SITE_URL": "/",
    "SITE_ICON": icon,
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": icon}],
    "STYLES": [style],
    # The dashboard's blue, in the steps unfold wants.
    "COLORS": {
        "primary": {
            "50": "#eef3fe",
            "100": "#dde7fd",
            "200": "#bccffb",
            "300": "#9db9f8",
            "400": "#7ea6ff",
            "500": "#4f7fee",
            "600": "#2457d6",
            "700": "#1d47b0",
            "800": "#183a90",
            "900": "#152f73",
            "950": "#0d1d49",
        }
    },
    "SIDEBAR": {"show_search": True, "navigation": NAVIGATION},
}

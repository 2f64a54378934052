"""The menu, the colours, the stylesheet and the script, as callbacks that settings.UNFOLD names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as _

from sagas import rights
from sagas.admin.rights import may

COLOUR = {
    "50": "#eef6f8",
    "100": "#d5e8ed",
    "200": "#aed2dc",
    "300": "#7cb4c4",
    "400": "#4792a8",
    "500": "#2b778f",
    "600": "#1f6279",
    "700": "#1c5063",
    "800": "#1b4352",
    "900": "#193945",
    "950": "#0d242f",
}


def stylesheet(_request: HttpRequest) -> str:
    """Return the URL of our own stylesheet, which adds to unfold's."""
    return static("sagas/staff.css")


def script(_request: HttpRequest) -> str:
    """Return the URL of our own script: it copies ids and keeps ages current. Every page works without it."""
    return static("sagas/staff.js")


def colour(_request: HttpRequest) -> dict[str, str]:
    """Return the primary colour in unfold's shades."""
    return dict(COLOUR)


def navigation(_request: HttpRequest) -> list[dict[str, Any]]:
    """Return the menu; an entry is visible to those who may read its target."""
    return [
        {
            "title": None,
            "items": [
                {"title": _("Start"), "icon": "home", "link": reverse_lazy("admin:index")},
                _item(_("Sagas"), "account_tree", "sagas_sagalog", rights.VIEW_SAGAS),
                _item(_("Commands"), "undo", "compensation_command", rights.VIEW_COMMANDS),
                _item(_("Unmatched events"), "local_parking", "sagas_parked", rights.VIEW_PARKED),
                _item(_("Quarantine"), "report", "bridge_quarantined", rights.VIEW_QUARANTINE),
                _item(_("Jobs"), "list_alt_check", "sagas_job", rights.VIEW_JOBS),
                _item(_("Sending commands"), "pause_circle", "compensation_switch", rights.VIEW_PUBLISHING),
            ],
        },
        {
            "title": _("Records"),
            "separator": True,
            "items": [
                _item(_("Decisions"), "gavel", "sagas_decision", rights.VIEW_DECISIONS),
                _item(_("Event log"), "list_alt", "bridge_event", rights.VIEW_EVENTS),
            ],
        },
        {
            "title": _("Logins"),
            "separator": True,
            "items": [
                _item(_("Users"), "person", "auth_user", "auth.view_user"),
                _item(_("Groups"), "group", "auth_group", "auth.view_group"),
                _item(_("API tokens"), "key", "knox_authtoken", "knox.view_authtoken"),
            ],
        },
    ]


def _item(title: Any, icon: str, model: str, permission: str) -> dict[str, Any]:
    link = reverse_lazy(f"admin:{model}_changelist")
    return {"title": title, "icon": icon, "link": link, "permission": _has_permission(permission)}


def _has_permission(permission: str) -> Callable[[HttpRequest], bool]:
    return lambda request: may(request, permission)

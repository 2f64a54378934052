"""The permissions that the admin and the API require: Django's view permissions, and two of our own."""

from __future__ import annotations

# View a saga with its steps, lanes, log and timeline, and what it waits for.
VIEW_SAGAS = "sagas.view_sagalog"
VIEW_COMMANDS = "compensation.view_command"
VIEW_PARKED = "sagas.view_parked"
VIEW_QUARANTINE = "bridge.view_quarantined"
VIEW_PUBLISHING = "compensation.view_switch"
VIEW_DECISIONS = "sagas.view_decision"
VIEW_EVENTS = "bridge.view_event"
VIEW_JOBS = "sagas.view_job"
# Start, pause, resume, stop and approve jobs; required in addition to the right to make their decision.
RUN_JOBS = "sagas.run_job"
# Make any decision.
OPERATE = "sagas.operate_saga"
# View the contents of messages; required in addition to the right to see the event.
VIEW_PAYLOAD = "sagas.view_payload"

"""The bodies and answers of the addresses of jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers as s
from rest_framework.reverse import reverse

from sagas import actions, jobs
from sagas.actions import JobAction
from sagas.api.requests import ReasonedSerializer
from sagas.api.serializers import ObjectField
from sagas.jobs import why
from sagas.jobs.control import MOST_RATE
from sagas.models import Job, JobItem, JobItemStatus, JobStatus, PauseCause

MOST_IDS = 10_000
_ACTIONS = [spec.name for spec in actions.in_jobs()]

# --- bodies -----------------------------------------------------------------------------------------------------------


class JobReasonSerializer(ReasonedSerializer):
    dry_run = None  # type: ignore[assignment]

    def wants_reason(self, attrs: Mapping[str, Any]) -> bool:
        return True


class StartJobSerializer(JobReasonSerializer):
    rate = s.FloatField(
        default=0.0, min_value=0, max_value=MOST_RATE, help_text=_("items per second; 0: as fast as possible")
    )
    canary = s.IntegerField(
        default=0,
        min_value=0,
        max_value=jobs.MOST_ITEMS,
        help_text=_("the others follow when the commands of so many items are confirmed"),
    )
    values = ObjectField(default=dict, help_text=_("the values of the action's own fields, for all items"))

    def validate_values(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise s.ValidationError(_("An object is required."))
        return value


class NewJobSerializer(StartJobSerializer):
    action = s.ChoiceField(_ACTIONS)
    ids = s.ListField(
        child=s.CharField(max_length=200), required=False, allow_empty=False, max_length=MOST_IDS, help_text=_("items")
    )
    filter = ObjectField(required=False, help_text=_("all items that match now, instead of ids"))
    start = s.BooleanField(
        default=True, help_text=_("false: the items are only checked, and the job is started by its own address")
    )

    def wants_reason(self, attrs: Mapping[str, Any]) -> bool:
        return bool(attrs["start"])

    def validate_filter(self, value: Any) -> Any:
        if not isinstance(value, dict) or any(isinstance(one, dict | list) or one is None for one in value.values()):
            raise s.ValidationError(_("An object is required."))
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("ids" in attrs) == ("filter" in attrs):
            raise s.ValidationError({"ids": [_("Give either ids or filter.")]})
        return super().validate(attrs)


class ResumeJobSerializer(JobReasonSerializer):
    rate = s.FloatField(required=False, min_value=0, max_value=MOST_RATE, help_text=_("another rate"))
    canary = s.IntegerField(
        required=False, min_value=0, max_value=jobs.MOST_ITEMS, help_text=_("a new canary of so many items; 0: none")
    )


# --- answers ----------------------------------------------------------------------------------------------------------


class JobSerializer(s.Serializer[Job]):
    id = s.UUIDField()
    url = s.SerializerMethodField()
    action = s.CharField()
    status = s.ChoiceField(JobStatus.choices)
    pause_cause = s.ChoiceField(PauseCause.choices, allow_blank=True)
    selection = ObjectField()
    values = ObjectField()
    rate = s.FloatField()
    canary = s.IntegerField()
    canary_passed_at = s.DateTimeField(allow_null=True)
    total = s.IntegerField()
    eligible = s.IntegerField()
    not_eligible = s.IntegerField()
    done = s.IntegerField()
    already = s.IntegerField(help_text=_("others had made the same decision before"))
    refused = s.IntegerField()
    failed = s.IntegerField()
    reason = s.CharField()
    created_at = s.DateTimeField()
    created_by = s.CharField()
    actor = s.CharField(help_text=_("who started it"))
    started_at = s.DateTimeField(allow_null=True)
    approved_by = s.CharField()
    approved_at = s.DateTimeField(allow_null=True)
    changed_by = s.CharField(help_text=_("who last paused, resumed or stopped it"))
    changed_at = s.DateTimeField(allow_null=True)
    finished_at = s.DateTimeField(allow_null=True)
    possible = s.SerializerMethodField(help_text=_("what can be decided on it now"))

    @extend_schema_field({"type": "string", "format": "uri"})
    def get_url(self, job: Job) -> str:
        return reverse("job", kwargs={"job_id": job.id}, request=self.context.get("request"))

    @extend_schema_field({"type": "array", "items": {"type": "string", "enum": [one.value for one in JobAction]}})
    def get_possible(self, job: Job) -> list[str]:
        return [one.value for one in jobs.possible(job)]


class JobReasonCountSerializer(s.Serializer[Any]):
    status = s.ChoiceField(JobItemStatus.choices)
    reason = s.CharField()
    count = s.IntegerField()


class JobHistorySerializer(s.Serializer[Any]):
    action = s.CharField()
    actor = s.CharField()
    reason = s.CharField()
    decided_at = s.DateTimeField()


class JobCanarySerializer(s.Serializer[Any]):
    size = s.IntegerField()
    carried_out = s.IntegerField()
    waiting = s.IntegerField(help_text=_("commands that are not confirmed yet"))
    failed = s.BooleanField()


class JobDetailSerializer(JobSerializer):
    """A job with why items are not carried out, what became of its commands, and who decided what on it."""

    reasons = JobReasonCountSerializer(many=True)
    commands = ObjectField(help_text=_("commands that are sent because of it, counted by their status now"))
    canary_state = JobCanarySerializer(allow_null=True)
    history = JobHistorySerializer(many=True)


class JobItemSerializer(s.Serializer[JobItem]):
    number = s.IntegerField()
    target = s.CharField()
    values = ObjectField()
    status = s.ChoiceField(JobItemStatus.choices)
    reason = s.SerializerMethodField(help_text=_("why it is not carried out; empty if it is"))
    decision_id = s.UUIDField(source="decision", allow_null=True)
    decided_at = s.DateTimeField(allow_null=True)
    in_canary = s.BooleanField()
    commands = s.ListField(child=s.UUIDField())

    def get_reason(self, item: JobItem) -> str:
        return why.shown(item.why)

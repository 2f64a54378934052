"""The addresses of jobs: make one, see how far it is, and decide on it."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response

from sagas import actions, jobs
from sagas.actions import ActionSpec
from sagas.api import job_serializers as s
from sagas.api import parameters as p
from sagas.api.base import OF_BODIES, REFUSALS, DecisionView, page_of, reads
from sagas.api.permissions import may_read
from sagas.api.serializers import ErrorSerializer
from sagas.jobs import kinds, reading
from sagas.models import Job
from sagas.queries.pages import page_of as read_page
from sagas.rights import RUN_JOBS, VIEW_JOBS


def _accepts(body: Any) -> Any:
    """Describe a POST on jobs: it answers 202 with the job."""
    key = OpenApiParameter(
        "Idempotency-Key",
        OpenApiTypes.STR,
        OpenApiParameter.HEADER,
        description="a request repeated with the same key returns the first result",
    )
    accepted = OpenApiResponse(s.JobSerializer, description="accepted; Celery carries it out")
    return extend_schema(
        parameters=[key],
        request=body,
        responses={202: accepted, 404: ErrorSerializer, 409: ErrorSerializer, **REFUSALS, **OF_BODIES},
    )


class JobView(DecisionView):
    """What the addresses of jobs share."""

    right = VIEW_JOBS
    permission = RUN_JOBS

    def need_rights(self, request: Request, spec: ActionSpec) -> None:
        """Deny it unless the login may make the job's decision. The right to jobs is checked with the address."""
        if not request.user.has_perm(spec.permission):
            self.permission_denied(request)

    def accepted(self, request: Request, job: Job) -> Response:
        """Answer with the job as it is now."""
        job.refresh_from_db()
        answer = s.JobSerializer(job, context={"request": request}).data
        return Response(answer, status=202, headers={"Location": answer["url"]})


@extend_schema_view(
    get=reads(page_of(s.JobSerializer), p.JobsParameters, name="list_jobs"), post=_accepts(s.NewJobSerializer)
)
class JobsView(JobView):
    """List jobs, newest first; make one: its list of items is fixed at once, and checked and carried out later."""

    serializer_class = s.NewJobSerializer
    parameters = p.JobsParameters

    def get(self, request: Request) -> Response:
        given = self.given(request, reading.newest())
        page = read_page(given.rows(), **given.page)
        return self.answer_page(page, s.JobSerializer, context={"request": request})

    def post(self, request: Request) -> Response:
        body, by = self.parse(request)
        spec = actions.get(body["action"])
        self.need_rights(request, spec)
        if not may_read(request, kinds.of(spec).right):
            self.permission_denied(request)
        if "ids" in body:
            job = jobs.of_ids(spec, body["ids"], by, values=body["values"])
        else:
            job = jobs.of_filter(spec, body["filter"], by, values=body["values"])
        if body["start"]:
            jobs.start(job.id, by, jobs.Speed(rate=body["rate"], canary=body["canary"]), {})
        return self.accepted(request, job)


@extend_schema_view(get=reads(s.JobDetailSerializer, missing=True))
class OneJobView(JobView):
    """Return one job."""

    http_method_names = ["get", "head", "options"]

    def get(self, request: Request, job_id: str) -> Response:
        self.given(request)
        job = jobs.get(job_id)
        for name, found in (
            ("reasons", reading.reasons(job)),
            ("commands", reading.commands(job)),
            ("canary_state", reading.canary_of(job)),
            ("history", reading.history(job.id)),
        ):
            setattr(job, name, found)
        return Response(s.JobDetailSerializer(job, context={"request": request}).data)


@extend_schema_view(get=reads(page_of(s.JobItemSerializer), p.JobItemsParameters, missing=True))
class JobItemsView(JobView):
    """List the items of a job, each with its result."""

    http_method_names = ["get", "head", "options"]
    parameters = p.JobItemsParameters

    def get(self, request: Request, job_id: str) -> Response:
        given = self.given(request, reading.items(jobs.get(job_id).id))
        return self.answer_page(read_page(given.rows(), **given.page), s.JobItemSerializer)


class DecideJobView(JobView):
    """Decide on a job."""

    right = RUN_JOBS

    def post(self, request: Request, job_id: str) -> Response:
        body, by = self.parse(request)
        job = jobs.get(job_id)
        self.need_rights(request, actions.get(job.action))
        self.decide(job, body, by)
        return self.accepted(request, job)

    def decide(self, job: Job, body: dict[str, Any], by: actions.ActionRequest) -> None:
        """Carry it out. Raises DecisionError."""
        raise NotImplementedError


@extend_schema_view(post=_accepts(s.StartJobSerializer))
class StartJobView(DecideJobView):
    """Start a job whose items were only checked."""

    serializer_class = s.StartJobSerializer

    def decide(self, job: Job, body: dict[str, Any], by: actions.ActionRequest) -> None:
        jobs.start(job.id, by, jobs.Speed(rate=body["rate"], canary=body["canary"]), body["values"])


@extend_schema_view(post=_accepts(s.JobReasonSerializer))
class ApproveJobView(DecideJobView):
    """Approve a job that another person started."""

    serializer_class = s.JobReasonSerializer

    def decide(self, job: Job, body: dict[str, Any], by: actions.ActionRequest) -> None:
        jobs.approve(job.id, by)


@extend_schema_view(post=_accepts(s.JobReasonSerializer))
class PauseJobView(DecideJobView):
    """Pause a running job."""

    serializer_class = s.JobReasonSerializer

    def decide(self, job: Job, body: dict[str, Any], by: actions.ActionRequest) -> None:
        jobs.pause(job.id, by)


@extend_schema_view(post=_accepts(s.ResumeJobSerializer))
class ResumeJobView(DecideJobView):
    """Resume a paused job."""

    serializer_class = s.ResumeJobSerializer

    def decide(self, job: Job, body: dict[str, Any], by: actions.ActionRequest) -> None:
        jobs.resume(job.id, by, rate=body.get("rate"), canary=body.get("canary"))


@extend_schema_view(post=_accepts(s.JobReasonSerializer))
class StopJobView(DecideJobView):
    """Stop a job for good; what was carried out stays."""

    serializer_class = s.JobReasonSerializer

    def decide(self, job: Job, body: dict[str, Any], by: actions.ActionRequest) -> None:
        jobs.stop(job.id, by)


# By the last part of their addresses.
DECISIONS: dict[str, type[DecideJobView]] = {
    "start": StartJobView,
    "approve": ApproveJobView,
    "pause": PauseJobView,
    "resume": ResumeJobView,
    "stop": StopJobView,
}

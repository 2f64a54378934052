"""manage.py resume_saga: let a saga go on that was set aside by an error."""

from sagas import decisions
from sagas.decisions import Outcome, Request
from sagas.management.decision import SagasDoor
from sagas.management.door import Options


class Command(SagasDoor):
    help = "Let a saga go on that was set aside by an error, once the error is mended: its events are applied again."

    def decide(self, saga_id: str, options: Options, request: Request) -> Outcome:
        return decisions.resume(saga_id, request=request)

"""manage.py terminate_saga: close a saga without undoing."""

from sagas import decisions
from sagas.decisions import Outcome, Request
from sagas.management.decision import SagasDoor
from sagas.management.door import Options


class Command(SagasDoor):
    help = "Close a saga without undoing: commands already sent go on, every other is withdrawn, now and for ever."

    def decide(self, saga_id: str, options: Options, request: Request) -> Outcome:
        return decisions.terminate(saga_id, request=request)

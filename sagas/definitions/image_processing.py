"""image_processing version 2, the current one, as its difference from the table in image_processing_v1.py.

- A task that failed or ended may be started again: its saga has several runs.
- Processing reports with one event that an image was processed, and that it was not: its `status` says which.
- Processing may name a task of its own for an image that is ready: the image finds the saga.
- A refused deletion is delivered again to the service every minute, and refused again: equal refusals are counted.
"""

from dataclasses import replace

from sagas.definitions import image_processing_v1_restarted
from sagas.definitions.image_processing_v1 import ANONYMIZED, IMAGE, PROCESS
from sagas.definitions.image_processing_v1 import DEFINITION as VERSION_1
from sagas.engine.definition import Fails, Meaning, StepStatus, SuccessField
from sagas.engine.difference import changed

EVENT = VERSION_1.event_of

DEFINITION = changed(
    VERSION_1,
    version=2,
    restarts=True,
    replace=(
        replace(EVENT["ImagesRetrieved"], opening=True),
        replace(EVENT["ImageReadyForAnonymization"], opening=True),
        replace(EVENT["ImageReadyForProcessing"], own_key=True),
        replace(
            EVENT["ProcessingCompleted"],
            success_field=SuccessField(
                field="status",
                success=("COMPLETED",),
                failure=("FAILED", "FAILURE", "ERROR"),
                fails=Meaning(step=PROCESS, becomes=StepStatus.FAILED, fails=Fails.LANE, proves=ANONYMIZED),
            ),
            error_in="message",
            fields={**IMAGE, "status": "text", "message": "text"},
        ),
        replace(EVENT["ImageDeletionFailed"], collapse_after=10),
    ),
)

# All that sagas may run on, for the registry.
VERSIONS = (VERSION_1, image_processing_v1_restarted.DEFINITION, DEFINITION)

"""image_processing version 1: one imaging task over Data Retrieval, Anonymization and Processing, as a whole table.

Read it from top to bottom: which events exist, what each does to its saga, and how each step is undone. The services
own the format of the messages: their bodies, their topics, and types that report two different things.
Sagas that began with this version keep it, so do not change it: image_processing.py is the current version, written as
its difference.
"""

from sagas.engine.definition import (
    Announcement,
    Compensation,
    Definition,
    Entity,
    Event,
    Fails,
    Instead,
    Meaning,
    Noun,
    Step,
    StepStatus,
)

# --- services ---------------------------------------------------------------------------------------------------------
DATA_RETRIEVAL = "DATA_RETRIEVAL"
ANONYMIZATION = "ANONYMIZATION"
PROCESSING = "PROCESSING"

# --- steps: type, service and, for steps that only report a start, the step whose outcome completes them -----------
CREATE = Step("DATA_RETRIEVAL_CREATE", DATA_RETRIEVAL, outcome="DATA_RETRIEVAL_START")
RETRIEVE = Step("DATA_RETRIEVAL_START", DATA_RETRIEVAL)
UPLOAD = Step("DATA_RETRIEVAL_UPLOAD", DATA_RETRIEVAL)
HAND_OVER = Step("ANONYMIZATION_REQUEST", DATA_RETRIEVAL)
ASK_ANONYMIZATION = Step("ANONYMIZATION_REQUEST", ANONYMIZATION, outcome="ANONYMIZATION_COMPLETE")
ANONYMIZE = Step("ANONYMIZATION_COMPLETE", ANONYMIZATION)
ASK_PROCESSING = Step("PROCESSING_REQUEST", ANONYMIZATION, outcome="PROCESSING_COMPLETE")
START_PROCESSING = Step("PROCESSING_REQUEST", PROCESSING, outcome="PROCESSING_COMPLETE")
PROCESS = Step("PROCESSING_COMPLETE", PROCESSING)

STARTED, COMPLETED, FAILED, COMPENSATED = (
    StepStatus.STARTED,
    StepStatus.COMPLETED,
    StepStatus.FAILED,
    StepStatus.COMPENSATED,
)

# --- milestone: what the events of a lane prove, and what makes a compensation required ----------------------------
ANONYMIZED = "anonymized"

# --- texts of the services: Data Retrieval reports the deletion of a task's last image as a failure of the task, and
# --- the anonymizer in production reports a rollback as a failed anonymization.
ECHO_OF_OUR_DELETIONS = "Tarea fallida por compensación de saga"
ANONYMIZATION_REVERSED = "Anonimización revertida"

IMAGE = {"image_id": "id", "task_id": "id"}
WITH_ERROR = {**IMAGE, "error_message": "text"}

EVENTS = (
    # ---- Data Retrieval ----
    Event(
        type="RetrievalStarted",
        topics=("retrieval-started",),
        starts=True,
        entity=Entity.SAGA,
        means=Meaning(step=CREATE, becomes=STARTED),
        fields={"task_id": "id", "batch_id": "id", "source_metadata": "object"},
    ),
    Event(
        type="RetrievalCompleted",
        topics=("retrieval-completed",),
        entity=Entity.SAGA,
        means=Meaning(
            step=RETRIEVE,
            becomes=COMPLETED,
            ends_intake=True,
            announces=Announcement("result", count="successful_images", total="total_images", failed="failed_images"),
        ),
        fields={
            "task_id": "id",
            "result": "object",
            "result.total_images": "integer",
            "result.successful_images": "integer",
            "result.failed_images": "integer",
        },
    ),
    Event(
        type="RetrievalFailed",
        topics=("retrieval-failed",),
        entity=Entity.SAGA,
        means=Meaning(step=RETRIEVE, becomes=FAILED, fails=Fails.SAGA),
        instead=(Instead("error_message", ECHO_OF_OUR_DELETIONS, Meaning(echoes_undo=True)),),
        fields={"task_id": "id", "error_message": "text"},
    ),
    Event(
        type="ImagesRetrieved",
        topics=("images-retrieved",),
        entity=Entity.EACH,
        listed_in="image_ids",
        means=Meaning(step=UPLOAD, becomes=COMPLETED),
        fields={"task_id": "id", "batch_id": "id", "number_of_images": "integer", "image_ids": "ids"},
    ),
    Event(
        type="ImageUploadFailed",
        topics=("image-upload-failed",),
        entity=Entity.EVENT,
        means=Meaning(step=UPLOAD, becomes=FAILED, fails=Fails.UPLOAD),
        fields={"task_id": "id", "error_message": "text", "filename": "text"},
    ),
    Event(
        type="ImageReadyForAnonymization",
        topics=("image-anonymization",),
        entity=Entity.LANE,
        means=Meaning(step=HAND_OVER, becomes=COMPLETED),
        fields=IMAGE,
    ),
    # ---- Anonymization ----
    Event(
        type="AnonymizationRequested",
        topics=("anonymization-requests",),
        entity=Entity.LANE,
        own_key=True,
        means=Meaning(step=ASK_ANONYMIZATION, becomes=STARTED),
        fields=IMAGE,
    ),
    Event(
        type="AnonymizationCompleted",
        topics=("anonymization-completed",),
        entity=Entity.LANE,
        own_key=True,
        means=Meaning(step=ANONYMIZE, becomes=COMPLETED, proves=ANONYMIZED),
        fields=IMAGE,
    ),
    Event(
        type="AnonymizationFailed",
        topics=("anonymization-failed",),
        entity=Entity.LANE,
        own_key=True,
        means=Meaning(step=ANONYMIZE, becomes=FAILED, fails=Fails.LANE),
        instead=(
            Instead(
                "error_message",
                ANONYMIZATION_REVERSED,
                Meaning(step=ANONYMIZE, becomes=COMPENSATED, confirms="RollbackAnonymization"),
            ),
        ),
        fields=WITH_ERROR,
    ),
    Event(
        type="AnonymizationRolledBack",
        topics=("anonymization-anonymizationrolledback",),
        entity=Entity.LANE,
        own_key=True,
        means=Meaning(step=ANONYMIZE, becomes=COMPENSATED, confirms="RollbackAnonymization"),
        fields=IMAGE,
    ),
    Event(
        type="ImageReadyForProcessing",
        topics=("image-processing",),
        entity=Entity.LANE,
        means=Meaning(step=ASK_PROCESSING, becomes=STARTED, proves=ANONYMIZED),
        fields=IMAGE,
    ),
    # ---- Processing ----
    Event(
        type="ProcessingStarted",
        topics=(
            "processing-started",
            "usa-processing-started",
            "latam-processing-started",
            "processing.{region}.started",
        ),
        entity=Entity.LANE_ELSE_SAGA,
        own_key=True,
        means=Meaning(step=START_PROCESSING, becomes=STARTED, proves=ANONYMIZED),
        fields=IMAGE,
    ),
    Event(
        type="ProcessingCompleted",
        topics=(
            "image-processed",
            "usa-processing-completed",
            "latam-processing-completed",
            "processing.{region}.completed",
        ),
        entity=Entity.LANE_ELSE_SAGA,
        own_key=True,
        means=Meaning(step=PROCESS, becomes=COMPLETED, processes=True, proves=ANONYMIZED),
        fields=IMAGE,
    ),
    Event(
        type="ProcessingFailed",
        topics=(
            "processing-failed",
            "usa-processing-failed",
            "latam-processing-failed",
            "processing.{region}.failed",
        ),
        entity=Entity.LANE_ELSE_SAGA,
        own_key=True,
        means=Meaning(step=PROCESS, becomes=FAILED, fails=Fails.LANE_ELSE_SAGA, proves=ANONYMIZED),
        fields=WITH_ERROR,
    ),
    # ---- answers to our commands ----
    Event(
        type="ImageDeletionCompleted",
        topics=("retrieval-imagedeletioncompleted",),
        entity=Entity.LANE,
        means=Meaning(step=UPLOAD, becomes=COMPENSATED, confirms="DeleteRetrievedImage"),
        fields=IMAGE,
    ),
    Event(
        type="ImageDeletionFailed",
        topics=("retrieval-imagedeletionfailed",),
        entity=Entity.LANE,
        means=Meaning(refuses="DeleteRetrievedImage"),
        fields=WITH_ERROR,
    ),
)

# In a failed lane; the anonymized copy is removed before the image that it was made from.
COMPENSATIONS = (
    Compensation(
        command="RollbackAnonymization",
        noun=Noun("anonymization rollback", "anonymization rollbacks"),
        undoes=ANONYMIZE,
        service=ANONYMIZATION,
        topic="anonymization-commands",
        required_when=ANONYMIZED,
        data={"task_id": "key", "image_id": "entity", "reason": "=Saga compensation"},
    ),
    Compensation(
        command="DeleteRetrievedImage",
        noun=Noun("image deletion", "image deletions"),
        undoes=UPLOAD,
        service=DATA_RETRIEVAL,
        topic="data-retrieval-commands",
        after=("RollbackAnonymization",),
        data={"image_id": "entity", "task_id": "key", "reason": "=Saga compensation"},
        uuids=("image_id", "task_id"),
    ),
)

DEFINITION = Definition(
    name="image_processing",
    title="Image processing",
    key_noun=Noun("task", "tasks"),
    entity_noun=Noun("image", "images"),
    intake_noun=Noun("retrieval", "retrievals"),
    public_name="IMAGE_PROCESSING",  # as clients of the API know it
    version=1,
    key_field="task_id",
    entity_field="image_id",
    events=EVENTS,
    compensations=COMPENSATIONS,
    processed_needs=ANONYMIZED,
)

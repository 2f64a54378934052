"""image_processing version 3: version 1 with runs, for its sagas whose task is started again. No saga begins with it.

Without runs, what failed before a restart would undo the images that come after it. Everything else stays as the saga
began: ProcessingCompleted means that an image was processed, whatever its `status`, so that no image is undone which
version 1 had finished.
"""

from dataclasses import replace

from sagas.definitions.image_processing_v1 import DEFINITION as VERSION_1
from sagas.engine.difference import changed

DEFINITION = changed(
    VERSION_1,
    version=3,
    continues=1,
    restarts=True,
    replace=(
        replace(VERSION_1.event_of["ImagesRetrieved"], opening=True),
        replace(VERSION_1.event_of["ImageReadyForAnonymization"], opening=True),
    ),
)

"""The periodic task that frees disk and forgets sessions that have ended."""

import logging

from django.contrib.sessions.backends.db import SessionStore

from curation.services import file_upkeep
from workers.celery import app
from workers.tasks.watch import DATABASE_AWAY

logger = logging.getLogger(__name__)


@app.task(name="workers.tasks.tidying.tidy_files", throws=DATABASE_AWAY)
def tidy_files() -> None:
    """Remove what killed workers left and what nothing has needed for the grace time. Two at once
    do no harm."""
    folders = file_upkeep.remove_abandoned_work()
    freed = file_upkeep.free_unreferenced()
    file_upkeep.remove_exports()
    SessionStore.clear_expired()
    if folders or freed.files:
        logger.info(
            "freed %d bytes of %d files; removed %d work folders", freed.bytes, freed.files, folders
        )

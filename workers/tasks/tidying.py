"""The periodic task that purges what was deleted, frees disk and forgets ended sessions."""

import logging

from django.contrib.sessions.backends.db import SessionStore

from curation.services import deletions, file_upkeep
from workers.celery import app
from workers.tasks.watch import DATABASE_AWAY

logger = logging.getLogger(__name__)


@app.task(name="workers.tasks.tidying.tidy_files", throws=DATABASE_AWAY)
def tidy_files() -> None:
    """Remove what killed workers left and what nothing has needed for the grace time. Two at once
    do no harm."""
    folders = file_upkeep.remove_abandoned_work()
    purged = deletions.purge_due()
    freed = file_upkeep.free_unreferenced()
    file_upkeep.remove_exports()
    SessionStore.clear_expired()
    if folders or purged or freed.files:
        logger.info(
            "purged %d deletions; freed %d bytes of %d files; removed %d work folders",
            purged,
            freed.bytes,
            freed.files,
            folders,
        )

"""Who did what is written down for good."""

import pytest
from django.db import IntegrityError, connection, transaction

from curation.models import AuditEntry
from tests.api.world import World


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE curation_auditentry SET action = 'nothing'",
        "UPDATE curation_auditentry SET actor_id = NULL",
        "DELETE FROM curation_auditentry",
    ],
)
def test_the_audit_log_takes_additions_only(world: World, change: str) -> None:
    before = list(AuditEntry.objects.values())
    assert before
    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(change)
    assert list(AuditEntry.objects.values()) == before

"""Tables of the API, and the triggers that record webhook events.

The triggers write the event in the transaction that made it, whoever made it (worker, sweep, page,
API), so that no event is lost and none is told of a change that was rolled back.
"""

import uuid

import django.contrib.postgres.fields
import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import curation.models.webhook

EVENTS = """
CREATE FUNCTION curation_webhook_event(project uuid, name text, object uuid) RETURNS void LANGUAGE sql AS $$
    INSERT INTO curation_webhookdelivery
        (id, created_at, webhook_id, event, object_id, state, attempts, next_attempt_at, error)
    SELECT gen_random_uuid(), now(), id, name, object, 'waiting', 0, now(), ''
    FROM curation_webhook
    WHERE project_id = project AND disabled_at IS NULL AND name = ANY(events);
$$;

CREATE FUNCTION curation_job_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM curation_webhook_event(NEW.project_id, 'job.' || NEW.state, NEW.id);
    RETURN NULL;
END $$;
CREATE TRIGGER curation_job_event AFTER UPDATE OF state ON curation_job FOR EACH ROW
    WHEN (OLD.state IS DISTINCT FROM NEW.state AND NEW.state IN ('succeeded', 'failed', 'cancelled'))
    EXECUTE FUNCTION curation_job_event();

CREATE FUNCTION curation_registration_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM curation_webhook_event(NEW.project_id, 'verdict.given', NEW.id);
    RETURN NULL;
END $$;
CREATE TRIGGER curation_registration_event AFTER UPDATE OF state ON curation_registration FOR EACH ROW
    WHEN (OLD.state IS DISTINCT FROM NEW.state AND NEW.state IN ('complete', 'invalidated'))
    EXECUTE FUNCTION curation_registration_event();
"""
NO_EVENTS = """
DROP TRIGGER curation_registration_event ON curation_registration;
DROP FUNCTION curation_registration_event();
DROP TRIGGER curation_job_event ON curation_job;
DROP FUNCTION curation_job_event();
DROP FUNCTION curation_webhook_event(uuid, text, uuid);
"""


class Migration(migrations.Migration):
    dependencies = [
        ("curation", "0002_locks"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Upload",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True, db_index=True)),
                (
                    "file_name",
                    models.CharField(
                        help_text="As the user named it; shown, never used as a path.",
                        max_length=255,
                    ),
                ),
                ("size", models.BigIntegerField(help_text="Bytes, as announced.")),
                (
                    "sha256",
                    models.CharField(
                        blank=True, help_text="As announced; checked at the end.", max_length=64
                    ),
                ),
                ("part_size", models.PositiveIntegerField()),
                (
                    "created_by",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "project",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="uploads",
                        to="curation.project",
                    ),
                ),
                (
                    "stored_file",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="curation.storedfile",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="UploadPart",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.PositiveIntegerField()),
                (
                    "stored_file",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="curation.storedfile",
                    ),
                ),
                (
                    "upload",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="parts",
                        to="curation.upload",
                    ),
                ),
            ],
            options={
                "ordering": ["number"],
            },
        ),
        migrations.CreateModel(
            name="Webhook",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True, db_index=True)),
                ("url", models.URLField(max_length=500)),
                (
                    "events",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(
                            choices=[
                                ("job.succeeded", "A job succeeded"),
                                ("job.failed", "A job failed"),
                                ("job.cancelled", "A job was cancelled"),
                                ("verdict.given", "A registered test got its verdicts"),
                                ("ping", "A test message"),
                            ],
                            max_length=30,
                        ),
                        size=None,
                    ),
                ),
                (
                    "salt",
                    models.CharField(
                        default=curation.models.webhook.new_salt,
                        editable=False,
                        help_text="The signing secret is derived from it and the site's key; it is not stored.",
                        max_length=32,
                    ),
                ),
                ("disabled_at", models.DateTimeField(blank=True, null=True)),
                ("disabled_reason", models.CharField(blank=True, max_length=300)),
                (
                    "created_by",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "project",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="webhooks",
                        to="curation.project",
                    ),
                ),
            ],
            options={
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="WebhookDelivery",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True, db_index=True)),
                (
                    "event",
                    models.CharField(
                        choices=[
                            ("job.succeeded", "A job succeeded"),
                            ("job.failed", "A job failed"),
                            ("job.cancelled", "A job was cancelled"),
                            ("verdict.given", "A registered test got its verdicts"),
                            ("ping", "A test message"),
                        ],
                        max_length=30,
                    ),
                ),
                (
                    "object_id",
                    models.UUIDField(
                        help_text="The job or the registration that the event is about."
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "Waiting"),
                            ("delivered", "Delivered"),
                            ("given_up", "Given up"),
                        ],
                        default="waiting",
                        max_length=10,
                    ),
                ),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                ("next_attempt_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("response_status", models.PositiveSmallIntegerField(blank=True, null=True)),
                ("error", models.CharField(blank=True, max_length=300)),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                (
                    "webhook",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="deliveries",
                        to="curation.webhook",
                    ),
                ),
            ],
            options={
                "ordering": ["-created_at"],
            },
        ),
        migrations.CreateModel(
            name="IdempotentRequest",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("key", models.CharField(max_length=200)),
                (
                    "fingerprint",
                    models.CharField(
                        help_text="SHA-256 of method, address and body: one key, one request.",
                        max_length=64,
                    ),
                ),
                ("status", models.PositiveSmallIntegerField(null=True)),
                ("content_type", models.CharField(blank=True, max_length=100)),
                ("body", models.BinaryField(default=bytes)),
                ("location", models.CharField(blank=True, max_length=300)),
                ("created_at", models.DateTimeField(auto_now_add=True, db_index=True)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="idempotent_requests",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("user", "key"), name="one_request_per_key")
                ],
            },
        ),
        migrations.CreateModel(
            name="Token",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True, db_index=True)),
                (
                    "name",
                    models.CharField(
                        help_text="What uses it, such as “nightly pipeline”.", max_length=120
                    ),
                ),
                ("prefix", models.CharField(editable=False, max_length=16, unique=True)),
                ("secret_sha256", models.CharField(editable=False, max_length=64)),
                (
                    "scopes",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(
                            choices=[
                                ("read", "Read"),
                                ("write", "Write"),
                                ("run", "Start computations"),
                                ("review", "Review results"),
                            ],
                            max_length=10,
                        ),
                        size=None,
                    ),
                ),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
                ("last_used_at", models.DateTimeField(blank=True, editable=False, null=True)),
                ("revoked_at", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="tokens",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ["-created_at"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("scopes__len__gt", 0),
                            ("scopes__contained_by", ["read", "write", "run", "review"]),
                        ),
                        name="token_scopes_are_known",
                    )
                ],
            },
        ),
        migrations.AddConstraint(
            model_name="upload",
            constraint=models.CheckConstraint(
                condition=models.Q(("size__gt", 0)), name="upload_is_not_empty"
            ),
        ),
        migrations.AddConstraint(
            model_name="uploadpart",
            constraint=models.UniqueConstraint(
                fields=("upload", "number"), name="one_part_per_number"
            ),
        ),
        migrations.AddIndex(
            model_name="webhookdelivery",
            index=models.Index(
                condition=models.Q(("state", "waiting")),
                fields=["next_attempt_at"],
                name="delivery_due",
            ),
        ),
        migrations.RunSQL(EVENTS, NO_EVENTS),
    ]

"""Triggers that keep what was promised: locked plans, frozen edits, fixed behaviours, append-only logs.

They hold against forms, the API, the admin and SQL alike. Purging a whole project is the one exception;
it says so in its own transaction by `SET LOCAL hunch.purging = 'on'`.
"""

from django.db import migrations

PURGING = "current_setting('hunch.purging', true) = 'on'"


def fixed_columns(table: str, columns: tuple[str, ...], message: str, when: str = "true") -> str:
    changed = " OR ".join(f"NEW.{column} IS DISTINCT FROM OLD.{column}" for column in columns)
    return f"""
    CREATE FUNCTION {table}_keep() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF coalesce({PURGING}, false) THEN
            IF TG_OP = 'DELETE' THEN RETURN OLD; ELSE RETURN NEW; END IF;
        END IF;
        IF {when} THEN
            IF TG_OP = 'DELETE' THEN
                RAISE EXCEPTION '{message}' USING ERRCODE = 'check_violation';
            ELSIF {changed} THEN
                RAISE EXCEPTION '{message}' USING ERRCODE = 'check_violation';
            END IF;
        END IF;
        IF TG_OP = 'DELETE' THEN RETURN OLD; ELSE RETURN NEW; END IF;
    END $$;
    CREATE TRIGGER {table}_keep BEFORE UPDATE OR DELETE ON {table}
        FOR EACH ROW EXECUTE FUNCTION {table}_keep();
    """


def undo(table: str) -> str:
    return f"DROP TRIGGER {table}_keep ON {table}; DROP FUNCTION {table}_keep();"


EDITS = f"""
CREATE FUNCTION curation_edit_keep() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE proposal_key uuid;
BEGIN
    IF TG_OP = 'INSERT' THEN proposal_key := NEW.proposal_id; ELSE proposal_key := OLD.proposal_id; END IF;
    IF NOT coalesce({PURGING}, false)
       AND EXISTS (SELECT 1 FROM curation_proposal WHERE id = proposal_key AND state = 'frozen') THEN
        RAISE EXCEPTION 'The edits of a frozen proposal cannot be changed.' USING ERRCODE = 'check_violation';
    END IF;
    IF TG_OP = 'DELETE' THEN RETURN OLD; ELSE RETURN NEW; END IF;
END $$;
CREATE TRIGGER curation_edit_keep BEFORE INSERT OR UPDATE OR DELETE ON curation_edit
    FOR EACH ROW EXECUTE FUNCTION curation_edit_keep();
"""

LOCKS = {
    "curation_registration": (
        (
            "project_id", "proposal_id", "primary_behaviour_id", "plan", "plan_text", "plan_sha256",
            "seeds", "smallest_effect", "level", "decision_rule", "locked_by_id", "created_at",
        ),
        "A registered plan cannot be changed; record a deviation instead.",
        "true",
    ),
    "curation_proposal": (
        ("project_id", "baseline_id", "hypothesis", "state", "revision", "edits_sha256", "frozen_at"),
        "A frozen proposal cannot be changed; copy it instead.",
        "OLD.state = 'frozen'",
    ),
    "curation_retrain": (
        ("registration_id", "arm", "seed", "values", "created_at"),
        "The result of a retrain cannot be changed.",
        "true",
    ),
    "curation_deviation": (
        ("registration_id", "description", "recorded_by_id", "created_at"),
        "A recorded deviation cannot be changed.",
        "true",
    ),
    "curation_auditentry": (
        ("project_id", "actor_id", "action", "object_kind", "object_id", "detail", "created_at"),
        "The audit log is append-only.",
        "true",
    ),
    "curation_behaviour": (
        ("baseline_id", "kind", "definition", "label", "probe_indices", "pasted_examples", "unit", "better"),
        "What a behaviour measures cannot be changed; archive it and define another.",
        "true",
    ),
}


class Migration(migrations.Migration):
    dependencies = [("curation", "0001_initial")]

    operations = [
        migrations.RunSQL(EDITS, undo("curation_edit")),
        *(
            migrations.RunSQL(fixed_columns(table, columns, message, when), undo(table))
            for table, (columns, message, when) in LOCKS.items()
        ),
    ]

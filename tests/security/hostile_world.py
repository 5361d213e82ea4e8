"""The small world, with examples whose every text is an attack on whoever shows or opens it."""

import io
import re
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.models import DatasetVersion, Edit
from curation.services import files
from tests.api.world import World, parquet_of_examples

MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>{{ 7|add:7 }}"
FORMULAS = ("=1+2", "+cmd|' /C calc'!A0", "-2+3+cmd", "@SUM(A1)", "\t=1", "\r=1", "＝1+1")
FORMULA = re.compile(r"^[=+\-@\t\r＝＋－＠]")
NUMBER = re.compile(r"^[+-]?\d+(\.\d+)?(e[+-]?\d+)?$")


def formulas(rows: int) -> list[str]:
    return [FORMULAS[i % len(FORMULAS)] for i in range(rows)]


def with_hostile_texts(world: World) -> World:
    """Text is markup, ids and attributes are formulas, and so is the name of a column."""
    table = pq.read_table(io.BytesIO(parquet_of_examples()))
    rows = len(table)
    ids = [f"{start}{i}" for i, start in enumerate(formulas(rows))]
    columns: dict[str, Any] = {
        "example_id": ids,
        "text": [MARKUP] * rows,
        "attribute_source": formulas(rows),
    }
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values))
    table = table.append_column("attribute_=1+1", pa.array([MARKUP, "b"] * (rows // 2)))
    stream = io.BytesIO()
    pq.write_table(table, stream)
    stored = files.store_bytes(content=stream.getvalue())
    DatasetVersion.objects.filter(pk=world.version.pk).update(examples_file=stored)
    for edit in world.proposal.edits.all():
        Edit.objects.filter(pk=edit.pk).update(example_id=ids[edit.train_index])
    world.version.refresh_from_db()
    return world

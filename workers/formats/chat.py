"""Chat messages as a plain prompt and completion; the tokenizer's own template is applied
elsewhere."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from workers.formats.conversion import engine, query
from workers.formats.rules import Place, first_true

ROLES = ("system", "developer", "user", "assistant", "tool")

# Also reads the older form {"from": "human" | "gpt", "value": …}.
_SQL = """
WITH turns AS (
    SELECT list_transform(CAST(messages AS JSON[]), lambda m: {
        'role': CASE lower(coalesce(m->>'role', m->>'from'))
                WHEN 'human' THEN 'user' WHEN 'gpt' THEN 'assistant'
                ELSE lower(coalesce(m->>'role', m->>'from')) END,
        'content': coalesce(m->>'content', m->>'value')}) AS turn,
        number
    FROM batch
)
SELECT CAST(to_json(turn) AS VARCHAR) AS messages,
       array_to_string(list_transform(turn[:-2], lambda t: t.role || ': ' || t.content), chr(10))
           AS prompt,
       turn[-1].content AS completion,
       len(turn) >= 2 AND turn[-1].role = 'assistant' AND turn[-1].content <> ''
           AND len(list_filter(turn, lambda t: t.content IS NULL OR t.role IS NULL
               OR NOT list_contains({roles}, t.role))) = 0 AS good
FROM turns ORDER BY number
"""


def messages_as_prompt_and_completion(
    messages: pa.Array, field: str, place: Place
) -> dict[str, pa.Array]:
    """`prompt` (all turns but the last, one `role: content` a line), `completion` (the last turn,
    which must be the assistant's) and `messages` (JSON with only role and content)."""
    with engine() as connection:
        valid = query(
            connection,
            "SELECT json_valid(v) AND json_type(CASE WHEN json_valid(v) THEN v END) = 'ARRAY' AS v"
            " FROM batch",
            pa.table({"v": messages}),
        )["v"].combine_chunks()
        if (at := first_true(pc.invert(pc.fill_null(valid, False)))) is not None:
            raise place.error(at, field, "must be a list of messages with role and content")
        numbered = pa.table({"messages": messages, "number": pa.array(range(len(messages)))})
        turns = query(connection, _SQL.replace("{roles}", str(list(ROLES))), numbered)
    good = turns["good"].combine_chunks()
    if (at := first_true(pc.invert(pc.fill_null(good, False)))) is not None:
        raise place.error(
            at,
            field,
            "must be two or more messages with known roles and a content, the last the assistant's",
        )
    return {
        name: turns[name].combine_chunks().cast(pa.string())
        for name in ("prompt", "completion", "messages")
    }

"""Hostile and broken datasets: each is refused by one clear error and leaves nothing behind."""

from __future__ import annotations

import csv
import gzip
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.formats.datasets_fixtures import (
    SMALL,
    TEXT,
    import_bytes,
    json_lines,
    parquet_bytes,
    rows,
)
from workers.formats.column_mapping import ColumnMapping
from workers.formats.content import DatasetPart
from workers.formats.dataset_inspection import inspect_parts
from workers.formats.errors import FormatError
from workers.formats.guarded import import_guarded
from workers.formats.resource_guard import ResourceLimitExceeded, ResourceLimits

IDS = replace(TEXT, example_id="id")
CROWD = replace(TEXT, probe_label="crowd")
NUMBERS = ColumnMapping("tabular_classification", features=("a", "b"), label="label", split="split")
LIST = replace(NUMBERS, features=("a",))
TARGET = ColumnMapping("tabular_regression", features=("a",), target="b", split="split")
IMAGE = ColumnMapping(
    "image_classification", image="a", image_shape=(1, 2, 2), label="label", split="split"
)
CHAT = ColumnMapping("prompt_completion", messages="messages", split="split")


@dataclass(frozen=True)
class Hostile:
    """A file, and what the error must say: part of the rule, row and field where they apply."""

    data: bytes | Callable[[], bytes]
    rule: str
    row: int | None = None
    field: str | None = None
    mapping: ColumnMapping = TEXT

    def content(self) -> bytes:
        return self.data if isinstance(self.data, bytes) else self.data()


def changed(row: int, **values: object) -> bytes:
    """Good JSON lines with some fields of one 1-based row changed."""
    records = rows()
    records[row - 1] = records[row - 1] | values
    return json_lines(records)


def numeric(row: int | None = None, **values: object) -> bytes:
    records = [r | {"a": k, "b": k * 2} for k, r in enumerate(rows())]
    if row is not None:
        records[row - 1] |= values
    return json_lines(records)


def listed(row: int, value: object, good: object = (1, 2, 3, 4)) -> bytes:
    records = [r | {"a": good, "b": 1} for r in rows()]
    records[row - 1]["a"] = value
    return json_lines(records)


def chat(row: int, messages: object) -> bytes:
    good = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    records = [{"split": r["split"], "messages": good} for r in rows()]
    records[row - 1]["messages"] = messages
    return json_lines(records)


def csv_text(records: list[list[str]], delimiter: str = ",") -> bytes:
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter).writerows(records)
    return stream.getvalue().encode()


GOOD_CSV = [["text", "label", "split"]] + [[r["text"], r["label"], r["split"]] for r in rows()]


def csv_changed(row: int, fields: list[str]) -> bytes:
    return csv_text([*GOOD_CSV[:row], fields, *GOOD_CSV[row + 1 :]])


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../data.csv", b"0" * 1_000_000)
    return stream.getvalue()


class Explosive:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("a pickle was opened",))


TABLE = pa.Table.from_pylist(rows())


def parquet(**columns: object) -> bytes:
    table = TABLE
    for name, values in columns.items():
        array = values if isinstance(values, pa.Array) else pa.array(values)
        at = table.schema.get_field_index(name)
        table = table.append_column(name, array) if at < 0 else table.set_column(at, name, array)
    return parquet_bytes(table)


def dictionary_bomb(text: str = "x" * 1_000_000) -> bytes:
    """A few kilobytes of Parquet that would unfold into gigabytes of text."""
    values = pa.DictionaryArray.from_arrays(pa.array(np.zeros(40_000, np.int32)), pa.array([text]))
    table = pa.table({"text": values, "label": ["a"] * 40_000, "split": ["train"] * 40_000})
    return parquet_bytes(table)


def with_footer_length(length: int) -> bytes:
    data = parquet()
    return data[:-8] + struct.pack("<I", length) + b"PAR1"


def broken_utf8_parquet() -> bytes:
    bad = pa.StringArray.from_buffers(
        12, pa.py_buffer(np.arange(13, dtype=np.int32)), pa.py_buffer(b"\xff" * 12)
    )
    return parquet(text=bad)


def many_groups() -> bytes:
    return parquet_bytes(pa.Table.from_pylist(rows(200)), row_group_size=1)


def arrow_stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def broken_arrow_offsets() -> bytes:
    stream = bytearray(arrow_stream(pa.Table.from_pylist(rows())))
    good = np.array([0, 2, 4, 6], np.int32).tobytes()  # the offsets of the id column
    at = stream.find(good)
    assert at > 0
    stream[at + 4 : at + 8] = struct.pack("<i", 2_000_000_000)
    return bytes(stream)


def wide_json(count: int) -> bytes:
    return json.dumps({f"c{k}": 1 for k in range(count)}).encode() + b"\n"


def nested(depth: int) -> bytes:
    return json_lines(rows()) + b'{"text": ' + b"[" * depth + b"]" * depth + b"}\n"


LINES = json_lines(rows())

HOSTILE: dict[str, Hostile] = {
    # Nothing, or something else than a dataset, whatever its name says.
    "empty file": Hostile(b"", "empty"),
    "only blank lines": Hostile(b"\n\n \r\n", "blank"),
    "endless blanks": Hostile(b" " * 200_000, "blank"),
    "only a byte order mark": Hostile(b"\xef\xbb\xbf", "blank"),
    "zip": Hostile(zipped, "zip archive"),
    "empty zip": Hostile(b"PK\x05\x06" + b"\0" * 18, "zip"),
    "pickle 2": Hostile(lambda: pickle.dumps(Explosive(), 2), "pickle"),
    "pickle 4": Hostile(lambda: pickle.dumps(Explosive(), 4), "pickle"),
    "pickle 5": Hostile(lambda: pickle.dumps([1, 2]), "pickle"),
    "pickle 0": Hostile(lambda: pickle.dumps(Explosive(), 0), "", mapping=TEXT),
    "NumPy": Hostile(b"\x93NUMPY\x01\x00" + b"\0" * 64, "NumPy"),
    "bzip2": Hostile(b"BZh91AY" + b"\0" * 30, "bzip2"),
    "xz": Hostile(b"\xfd7zXZ\0" + b"\0" * 30, "xz"),
    "zstd": Hostile(b"\x28\xb5\x2f\xfd" + b"\0" * 30, "zstd"),
    "7z": Hostile(b"7z\xbc\xaf\x27\x1c" + b"\0" * 30, "7z"),
    "PDF": Hostile(b"%PDF-1.7\n", "PDF"),
    "PNG": Hostile(b"\x89PNG\r\n\x1a\n" + b"\0" * 30, "PNG"),
    "JPEG": Hostile(b"\xff\xd8\xff\xe0" + b"\0" * 30, "JPEG"),
    "GIF": Hostile(b"GIF89a" + b"\0" * 30, "GIF"),
    "SQLite": Hostile(b"SQLite format 3\0" + b"\0" * 90, "SQLite"),
    "program": Hostile(b"\x7fELF" + b"\0" * 60, "program"),
    "HDF5": Hostile(b"\x89HDF\r\n\x1a\n", "HDF5"),
    "Avro": Hostile(b"Obj\x01" + b"\0" * 30, "Avro"),
    "ORC": Hostile(b"ORC" + b"\0" * 30, "ORC"),
    "script": Hostile(b"#!/bin/sh\nrm -rf /\n", "script"),
    "HTML": Hostile(b"<!DOCTYPE html><html></html>", "HTML"),
    "XML bomb": Hostile(b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "b">]>', "XML"),
    "random bytes": Hostile(lambda: np.random.default_rng(0).bytes(5_000), "UTF-8"),
    "a gzip of random bytes": Hostile(
        lambda: gzip.compress(np.random.default_rng(1).bytes(5_000)), "UTF-8"
    ),
    "a gzip of a Parquet": Hostile(lambda: gzip.compress(parquet()), "NUL"),
    "a gzip of a gzip": Hostile(lambda: gzip.compress(gzip.compress(LINES)), ""),
    "a gzip of a pickle": Hostile(lambda: gzip.compress(pickle.dumps([1])), ""),
    "a gzip bomb": Hostile(
        lambda: gzip.compress(csv_text(GOOD_CSV) + b"a,ham,train\n" * 2_000_000), ""
    ),
    "a gzip bomb on one line": Hostile(lambda: gzip.compress(b"{" + b" " * 50_000_000), ""),
    "a gzip cut short": Hostile(lambda: gzip.compress(LINES * 99)[:-20], "damaged"),
    "a gzip with a wrong sum": Hostile(lambda: gzip.compress(LINES)[:-8] + b"12345678", "damaged"),
    "a file too large": Hostile(lambda: b"a" * 4_000_001, "at most 4,000,000"),
    # Encodings.
    "latin-1 JSON": Hostile(LINES + '{"text": "é"}'.encode("latin-1"), "line 13 is not UTF-8", 13),
    "latin-1 CSV": Hostile(csv_text(GOOD_CSV) + b"caf\xe9,ham,train\n", "line 14 is not UTF-8"),
    "UTF-16": Hostile(LINES.decode().encode("utf-16"), "UTF-16"),
    "UTF-16 without a mark": Hostile(LINES.decode().encode("utf-16-le"), "NUL"),
    "UTF-32": Hostile(LINES.decode().encode("utf-32-be"), "NUL"),
    "overlong UTF-8": Hostile(LINES + b'{"text": "\xc0\xaf"}', "UTF-8", 13),
    "surrogate bytes": Hostile(LINES + b'{"text": "\xed\xa0\x80"}', "UTF-8", 13),
    "UTF-8 cut short": Hostile(LINES + b'{"text": "\xe2\x82', "UTF-8"),
    "NUL in CSV": Hostile(csv_text(GOOD_CSV) + b"a\0b,ham,train\n", "line 14 holds a NUL"),
    "NUL byte in JSON": Hostile(LINES + b'{"text": "a\0b"}\n', "line 13 holds a NUL"),
    "invalid UTF-8 in Parquet": Hostile(broken_utf8_parquet, "UTF-8", field="text"),
    # JSON.
    "JSON cut short": Hostile(LINES + b'{"text": "a', "not valid JSON", 13),
    "JSON with text after it": Hostile(LINES + b'{"text": "a"} x\n', "not valid JSON", 13),
    "single quotes": Hostile(LINES + b"{'text': 'a'}\n", "not valid JSON", 13),
    "a lone high surrogate": Hostile(LINES + b'{"text": "\\ud800"}\n', "not valid JSON", 13),
    "a lone low surrogate": Hostile(LINES + b'{"text": "\\udc00"}\n', "not valid JSON", 13),
    "a raw control character": Hostile(LINES + b'{"text": "a\x01b"}\n', "not valid JSON", 13),
    "a list on a line": Hostile(LINES + b"[1, 2]\n", "not a JSON object", 13),
    "a number on a line": Hostile(LINES + b"17\n", "not a JSON object", 13),
    "null on a line": Hostile(LINES + b"null\n", "not a JSON object", 13),
    "an empty object": Hostile(LINES + b"{}\n", "not a JSON object", 13),
    "a field twice": Hostile(LINES + b'{"text": "a", "text": "b"}\n', "twice", 13, "text"),
    "fields that differ in case": Hostile(changed(4, Text="x"), "only in case", field="Text"),
    "a field without a name": Hostile(changed(4, **{"": "x"}), "no name"),
    "a blank field name": Hostile(changed(4, **{"  ": "x"}), "no name"),
    "a huge field name": Hostile(changed(4, **{"n" * 5_000: 1}), "at most 200 characters"),
    "a control character in a name": Hostile(changed(4, **{"a\x07b": 1}), "control"),
    "a bidi override in a name": Hostile(changed(4, **{"a\u202eb": 1}), "text-direction"),
    "nested 33 deep": Hostile(nested(33), "more than 32 levels", 13),
    "nested 10,000 deep": Hostile(nested(10_000), "more than 32 levels", 13),
    "opened 40,000 times": Hostile(LINES + b"[" * 40_000 + b"\n", "levels", 13),
    "objects nested deep": Hostile(
        LINES + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"\n", "levels", 13
    ),
    "a line too long": Hostile(LINES + b'{"text": "' + b"a" * 200_000 + b'"}', "longer than", 13),
    "too many fields in a line": Hostile(wide_json(101), "fields"),
    "a hundred thousand fields": Hostile(wide_json(7_000), "fields"),
    "new fields in every line": Hostile(
        json_lines([{f"field{k}": 1} for k in range(5_000)]), "fields"
    ),
    "an empty array": Hostile(b"[]", "empty"),
    "an array of numbers": Hostile(b"[1, 2, 3]", "not a JSON object", 1),
    "an array cut short": Hostile(b'[{"text": "a"}, {"te', "not a valid JSON array"),
    "an array opened without end": Hostile(b"[" * 900_000, "levels"),
    "an array in an array": Hostile(json.dumps([rows()]).encode(), "not a JSON object", 1),
    "an array too large": Hostile(json.dumps(rows(20_000)).encode(), "use JSON Lines"),
    "an array nested deep": Hostile(b'[{"a":' + b"[" * 99 + b"]" * 99 + b"}]", "levels"),
    # CSV.
    "a row with a field too many": Hostile(
        csv_changed(3, ["a", "ham", "train", "x"]), "4 fields where the header has 3", 3
    ),
    "a row with a field too few": Hostile(
        csv_changed(5, ["a", "ham"]), "2 fields where the header has 3", 5
    ),
    "a header alone": Hostile(b"text,label,split\n", "no rows"),
    "a header twice": Hostile(b"text,text,label,split\na,b,c,train\n", "twice", field="text"),
    "headers that differ in case": Hostile(b"text,TEXT,label,split\na,b,c,train\n", "only in case"),
    "a million columns": Hostile(lambda: b"c," * 1_000_000 + b"c\n1\n", "columns"),
    "a million commas": Hostile(lambda: csv_text(GOOD_CSV) + b"," * 1_000_000 + b"\n", ""),
    "a gigantic field": Hostile(
        csv_changed(4, ["x" * 90_000, "ham", "train"]), "at most 10,000", 4, "text"
    ),
    "a row longer than a block": Hostile(csv_changed(4, ["x" * 400_000, "ham", "train"]), "over"),
    "a quote never closed": Hostile(
        csv_text(GOOD_CSV) + b'"' + b"a,ham,train\n" * 60_000, "never closed"
    ),
    "a header with a control character": Hostile(b"te\x08xt,label\na,b\n", "control"),
    "a header with a bidi override": Hostile("te\u202ext,label\na,b\n".encode(), "direction"),
    "one column": Hostile(b"text\nfoo\nbar\n", "no such column", field="label"),
    # Columns and mappings.
    "a missing column": Hostile(
        LINES, "no such column", field="body", mapping=replace(TEXT, text="body")
    ),
    "a missing split column": Hostile(
        LINES, "no such column", field="fold", mapping=replace(TEXT, split="fold")
    ),
    "an unmapped label": Hostile(
        LINES,
        "choose a column",
        field="label",
        mapping=ColumnMapping("text_classification", text="text"),
    ),
    "an unknown task": Hostile(LINES, "must be one of", field="task", mapping=ColumnMapping("x")),
    "the text is its own label": Hostile(
        LINES, "both", field="text", mapping=replace(TEXT, label="text")
    ),
    "a value for both splits": Hostile(
        LINES, "both train and probe", mapping=replace(TEXT, train_values=("test", "train"))
    ),
    "too many attributes": Hostile(
        json_lines([r | {f"c{k}": 1 for k in range(30)} for r in rows()]), "attributes"
    ),
    # Ids, labels, splits, texts.
    "an id twice": Hostile(changed(9, id="e1"), "'e1' stands in row 2 and in row 9", 9, "id", IDS),
    "an id twice but for spaces": Hostile(changed(9, id=" e1 "), "'e1'", 9, "id", IDS),
    "a missing id": Hostile(changed(2, id=None), "id is missing", 2, "id", IDS),
    "an empty id": Hostile(changed(2, id="  "), "id is missing", 2, "id", IDS),
    "a long id": Hostile(changed(2, id="x" * 201), "200 characters", 2, "id", IDS),
    "a control character in an id": Hostile(changed(2, id="a\x1bb"), "control", 2, "id", IDS),
    "a bidi override in an id": Hostile(changed(2, id="a\u202eb"), "direction", 2, "id", IDS),
    "a NUL in an id": Hostile(changed(2, id="a\0b"), "control", 2, "id", IDS),
    "a missing label": Hostile(changed(4, label=None), "label is missing", 4, "label"),
    "an empty label": Hostile(changed(4, label=""), "label is missing", 4, "label"),
    "a long label": Hostile(changed(4, label="x" * 201), "200 characters", 4, "label"),
    "a bidi isolate in a label": Hostile(changed(4, label="a\u2066b"), "direction", 4, "label"),
    "a zero-width space in a label": Hostile(changed(4, label="a\u200bb"), "invisible", 4, "label"),
    "a line break in a label": Hostile(changed(4, label="a\nb"), "control", 4, "label"),
    "one class only": Hostile(
        json_lines(rows(label="ham")), "all train rows have the label 'ham'", field="label"
    ),
    "a label unseen in train": Hostile(
        changed(3, label="new"), "'new' of a probe row stands in no train row", 3, "label"
    ),
    "a probe label unseen in train": Hostile(
        json_lines([r | {"crowd": "rare" if k == 5 else "ham"} for k, r in enumerate(rows())]),
        "'rare'",
        6,
        "crowd",
        CROWD,
    ),
    "a missing probe label": Hostile(
        json_lines([r | {"crowd": None if k == 5 else "ham"} for k, r in enumerate(rows())]),
        "missing",
        6,
        "crowd",
        CROWD,
    ),
    "too many classes": Hostile(
        json_lines([r | {"label": f"l{k}"} for k, r in enumerate(rows(200))]),
        "is it the label column",
        field="label",
    ),
    "an unknown split": Hostile(changed(5, split="both"), "'both' is neither", 5, "split"),
    "a missing split": Hostile(changed(5, split=None), "split is missing", 5, "split"),
    "no probe rows": Hostile(json_lines(rows(split="train")), "no probe rows", field="split"),
    "no train rows": Hostile(json_lines(rows(split="test")), "no train rows", field="split"),
    "an empty text": Hostile(changed(6, text=""), "text is empty", 6, "text"),
    "a blank text": Hostile(changed(6, text=" \t\n "), "text is empty", 6, "text"),
    "a missing text": Hostile(changed(6, text=None), "text is empty", 6, "text"),
    "an escaped NUL in a text": Hostile(changed(6, text="a\0b"), "NUL", 6, "text"),
    "a text too long": Hostile(changed(6, text="é" * 5_001), "10,002 bytes", 6, "text"),
    "an attribute too long": Hostile(changed(6, note="x" * 5_001), "5,001 bytes", 6, "note"),
    "a NUL in an attribute": Hostile(changed(6, note="\0"), "NUL", 6, "note"),
    # Numbers.
    "NaN": Hostile(numeric(3, a=float("nan")), "NaN", 3, "a", NUMBERS),
    "infinity": Hostile(numeric(3, b=float("inf")), "infinite", 3, "b", NUMBERS),
    "minus infinity": Hostile(numeric(3, b=float("-inf")), "infinite", 3, "b", NUMBERS),
    "too large for 32 bits": Hostile(numeric(3, b=1e39), "infinite, or too large", 3, "b", NUMBERS),
    "too large for 64 bits": Hostile(
        numeric().replace(b'"a": 3,', b'"a": 1e999,'), "infinite", 4, "a", NUMBERS
    ),
    "the text nan": Hostile(numeric(3, a="nan"), "NaN", 3, "a", NUMBERS),
    "NA": Hostile(numeric(3, a="N/A"), "'N/A' is not a number", 3, "a", NUMBERS),
    "a missing number": Hostile(numeric(3, a=None), "missing", 3, "a", NUMBERS),
    "an empty number": Hostile(numeric(3, a=""), "missing", 3, "a", NUMBERS),
    "a list where a number belongs": Hostile(numeric(3, a=[1]), "not a number", 3, "a", NUMBERS),
    "a NaN target": Hostile(numeric(3, b=float("nan")), "NaN", 3, "b", TARGET),
    "a text target": Hostile(numeric(3, b="high"), "not a number", 3, "b", TARGET),
    "NaN in Parquet": Hostile(
        lambda: parquet(a=[1.0] * 11 + [float("nan")], b=[1.0] * 12), "NaN", 12, "a", NUMBERS
    ),
    "null in Parquet": Hostile(
        lambda: parquet(a=[1.0] * 11 + [None], b=[1] * 12), "missing", 12, "a", NUMBERS
    ),
    "dates as features": Hostile(
        lambda: parquet(a=pa.array([0] * 12, pa.date32()), b=[1] * 12), "numbers", 1, "a", NUMBERS
    ),
    "a list of another length": Hostile(listed(5, [1, 2, 3]), "3 numbers, but 4", 5, "a", LIST),
    "an empty list": Hostile(listed(5, []), "0 numbers", 5, "a", LIST),
    "lists that are all empty": Hostile(listed(5, [], []), "0 numbers", 1, "a", LIST),
    "a missing list": Hostile(listed(5, None), "missing", 5, "a", LIST),
    "a null in a list": Hostile(listed(5, [1, None, 3, 4]), "", 5, "a", LIST),
    "a word in a list": Hostile(listed(5, [1, "x", 3, 4]), "cannot be read", 5, "a", LIST),
    "an object for a list": Hostile(listed(5, {"x": 1}), "1 numbers, but 4", 5, "a", LIST),
    "NaN in a list": Hostile(listed(5, [1, float("nan"), 3, 4]), "NaN", 5, "a[1]", LIST),
    "a list too wide": Hostile(
        json_lines([r | {"a": [0] * 1_001} for r in rows()]), "1,001 numbers", 1, "a", LIST
    ),
    "a ragged Parquet list": Hostile(
        lambda: parquet(a=[[1.0, 2.0]] * 11 + [[1.0]]), "1 numbers, but 2", 12, "a", LIST
    ),
    "a null in a Parquet list": Hostile(
        lambda: parquet(a=[[1.0, 2.0]] * 11 + [[1.0, None]]), "missing", 12, "a", LIST
    ),
    "an image of another size": Hostile(listed(2, [1, 2, 3]), "3 numbers, but 4", 2, "a", IMAGE),
    "an image shape of nothing": Hostile(
        LINES, "at least 1", field="image_shape", mapping=replace(IMAGE, image_shape=(0, 1, 1))
    ),
    # Chat.
    "messages that are text": Hostile(chat(3, "hello"), "list of messages", 3, "messages", CHAT),
    "messages that are an object": Hostile(chat(3, {"a": 1}), "list", 3, "messages", CHAT),
    "a lone message": Hostile(
        chat(3, [{"role": "assistant", "content": "x"}]), "two or more", 3, "messages", CHAT
    ),
    "a last message by the user": Hostile(
        chat(3, [{"role": "user", "content": "x"}] * 2), "assistant's", 3, "messages", CHAT
    ),
    "an unknown role": Hostile(
        chat(3, [{"role": "root", "content": "x"}, {"role": "assistant", "content": "y"}]),
        "known roles",
        3,
        "messages",
        CHAT,
    ),
    "numbers for messages": Hostile(chat(3, [1, 2]), "", 3, "messages", CHAT),
    # Parquet and Arrow.
    "Parquet cut short": Hostile(lambda: parquet()[:-30], "cut short"),
    "only the Parquet magic": Hostile(b"PAR1", "cut short"),
    "two Parquet magics": Hostile(b"PAR1PAR1", "cut short"),
    "an empty footer": Hostile(lambda: with_footer_length(0), "footer"),
    "a footer outside the file": Hostile(lambda: with_footer_length(2**31 - 1), "footer"),
    "a footer of 4 GiB": Hostile(lambda: with_footer_length(2**32 - 1), "footer"),
    "a shifted footer": Hostile(lambda: with_footer_length(200), "damaged"),
    "a footer of zeros": Hostile(b"PAR1" + b"\0" * 200 + struct.pack("<I", 200) + b"PAR1", ""),
    "an encrypted Parquet": Hostile(b"PARE" + b"\0" * 30, "encrypted"),
    "a Parquet dictionary bomb": Hostile(dictionary_bomb, "once unpacked"),
    "a Parquet dictionary bomb of allowed texts": Hostile(
        lambda: dictionary_bomb("x" * 9_000), "once unpacked"
    ),
    "a long text behind a dictionary": Hostile(
        lambda: parquet(text=["short"] * 5 + ["x" * 20_000] * 7), "20,000 bytes", 6, "text"
    ),
    "a list of dictionaries": Hostile(
        lambda: arrow_stream(
            pa.table({"text": pa.array([["a"]], pa.list_(pa.dictionary(pa.int32(), pa.string())))})
        ),
        "",
    ),
    "a Parquet bomb of repeated text": Hostile(
        lambda: parquet_bytes(pa.table({"text": ["y" * 5_000] * 3_000}), use_dictionary=False),
        "unpacked",
    ),
    "a Parquet of a million rows": Hostile(
        lambda: parquet_bytes(pa.table({"text": pa.array(np.zeros(1_000_000, np.int8))})), "rows"
    ),
    "a Parquet of many columns": Hostile(
        lambda: parquet_bytes(pa.table({f"c{k}": [1] for k in range(101)})), "columns"
    ),
    "a Parquet of many row groups": Hostile(many_groups, ""),
    "a Parquet without rows": Hostile(lambda: parquet_bytes(TABLE.slice(0, 0)), "no rows"),
    "a Parquet with binary text": Hostile(
        lambda: parquet(text=pa.array([b"\xff"] * 12)), "cannot be read", field="text"
    ),
    "a Parquet with a column twice": Hostile(
        lambda: parquet_bytes(pa.Table.from_arrays([pa.array([1])] * 2, ["a", "a"])), "twice"
    ),
    "a Parquet with a bidi name": Hostile(
        lambda: parquet_bytes(TABLE.rename_columns(["id", "te\u202ext", "label", "split"])),
        "direction",
    ),
    "a class number without a name": Hostile(
        lambda: parquet_bytes(
            TABLE.set_column(2, "label", pa.array([0, 1] * 5 + [0, 7])).replace_schema_metadata(
                {
                    "huggingface": json.dumps(
                        {
                            "info": {
                                "features": {
                                    "label": {"names": ["ham", "spam"], "_type": "ClassLabel"}
                                }
                            }
                        }
                    )
                }
            )
        ),
        "7 has no name",
        12,
        "label",
    ),
    "Arrow cut short": Hostile(lambda: arrow_stream(TABLE)[:-300], ""),
    "an Arrow header alone": Hostile(b"\xff\xff\xff\xff" + b"\x10\0\0\0", "damaged"),
    "an Arrow header of 2 GiB": Hostile(
        b"\xff\xff\xff\xff\xff\xff\xff\x7f" + b"\0" * 64, "damaged"
    ),
    "an Arrow file magic alone": Hostile(b"ARROW1\0\0", "damaged"),
    "Arrow offsets outside the data": Hostile(broken_arrow_offsets, "damaged"),
}


def nothing_left(folder: Path) -> bool:
    return not [p for p in folder.iterdir() if not p.name.startswith("stored-")]


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_refused_with_its_place_and_rule(case, tmp_path):
    hostile = HOSTILE[case]
    with pytest.raises(FormatError) as caught:
        import_bytes(tmp_path, hostile.content(), hostile.mapping, name="up‮load.csv")
    error = caught.value
    assert hostile.rule in error.rule
    assert str(error).endswith(error.rule)
    if hostile.row is not None:
        assert error.row == hostile.row
    if hostile.field is not None:
        assert error.field == hostile.field
    if error.file is not None:
        assert error.file == r"up\u202eload.csv"
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_can_be_looked_at_without_harm(case, tmp_path):
    path = tmp_path / "stored-0"
    path.write_bytes(HOSTILE[case].content())
    try:
        inspection = inspect_parts([DatasetPart(path, "x")], SMALL)
    except FormatError:
        return
    json.dumps(inspection.to_json())
    assert len(inspection.preview) <= 20


def survives(folder: Path, data: bytes | Mapping[str, bytes], mapping: ColumnMapping) -> None:
    """Imports, or refuses with a FormatError and leaves nothing; any other end is a failure."""
    for left in folder.iterdir():
        left.unlink()
    try:
        import_bytes(folder, data, mapping)
    except FormatError as error:
        refusal = error
    else:
        return
    assert refusal.rule
    assert nothing_left(folder)


FUZZ = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
FEW = settings(FUZZ, max_examples=8)
BASES = {
    "parquet": parquet_bytes(pa.Table.from_pylist(rows())),
    "arrow": arrow_stream(pa.Table.from_pylist(rows())),
    "jsonl": LINES,
    "csv": csv_text(GOOD_CSV),
    "gzip": gzip.compress(LINES),
}


BINARY = ("parquet", "arrow")


def damaged(base: str, data: st.DataObject) -> bytes:
    content = bytearray(BASES[base])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(1, len(content) - 1)) :]
    return bytes(content)


@pytest.mark.parametrize("base", [name for name in BASES if name not in BINARY])
@FUZZ
@given(data=st.data())
def test_a_damaged_text_file_is_read_or_refused(base, data, tmp_path):
    survives(tmp_path, damaged(base, data), TEXT)


@pytest.mark.parametrize("base", BINARY)
@FEW
@given(data=st.data())
def test_a_damaged_binary_file_is_read_or_refused_and_cannot_take_the_reader_down(
    base, data, tmp_path
):
    """The Arrow library itself can crash on a damaged file; only the guarded child goes with it."""
    for left in tmp_path.iterdir():
        left.unlink()
    path, output = tmp_path / "stored-0", tmp_path / "examples.parquet"
    path.write_bytes(damaged(base, data))
    try:
        import_guarded(
            [DatasetPart(path, "upload")], TEXT, SMALL, output, ResourceLimits(wall_seconds=60)
        )
    except (FormatError, ResourceLimitExceeded) as error:
        refusal = str(error)
    else:
        return
    assert refusal
    assert nothing_left(tmp_path)


@FUZZ
@given(content=st.binary(max_size=400))
def test_arbitrary_bytes_are_refused(content, tmp_path):
    survives(tmp_path, content, TEXT)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=10,
)


@FUZZ
@given(
    records=st.lists(
        st.dictionaries(
            st.sampled_from(["text", "label", "split", "a", "b", "messages", "x'y", 'q"z', "ß"]),
            JSON_VALUES | st.sampled_from(["train", "test", "ham", "spam"]),
            max_size=6,
        ),
        max_size=8,
    ),
    mapping=st.sampled_from([TEXT, NUMBERS, LIST, IMAGE, CHAT, TARGET]),
)
def test_arbitrary_json_is_read_or_refused(records, mapping, tmp_path):
    survives(tmp_path, json_lines(records), mapping)


@FUZZ
@given(
    records=st.lists(st.lists(st.text(max_size=8), max_size=5), max_size=8),
    mapping=st.sampled_from([TEXT, NUMBERS, LIST]),
    delimiter=st.sampled_from([",", "\t", ";"]),
)
def test_arbitrary_csv_is_read_or_refused(records, mapping, delimiter, tmp_path):
    header = [["text", "label", "split", "a", "b"]]
    data = (
        csv_text(header + records, delimiter).decode("utf-8", "replace").encode("utf-8", "replace")
    )
    survives(tmp_path, data, mapping)


def test_too_many_rows_are_refused_in_every_format(tmp_path):
    limits = replace(SMALL, max_rows=10)
    table = pa.Table.from_pylist(rows())
    for data in (LINES, csv_text(GOOD_CSV), parquet_bytes(table), arrow_stream(table)):
        with pytest.raises(FormatError, match="rows"):
            import_bytes(tmp_path, data, TEXT, limits)
        assert nothing_left(tmp_path)


def test_control_and_direction_characters_stay_in_texts(tmp_path):
    text = "\u202eright to left\u202c\ttab\nline\x1b[31m"
    _, table = import_bytes(tmp_path, changed(1, text=text))
    assert table["text"][0].as_py() == text


def test_reading_a_parquet_footer_never_runs_past_the_limits(tmp_path):
    deep = pa.array([1])
    for _ in range(40):
        deep = pa.ListArray.from_arrays([0, 1], deep)
    with pytest.raises(FormatError, match="deep"):
        import_bytes(tmp_path, parquet_bytes(pa.table({"text": deep})))

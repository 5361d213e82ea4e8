"""The memory-mapped copy of a version's examples that pages browse: filters, orders, single rows.

A Parquet file must be decompressed to be searched; at a million rows that takes longer than a page
may. So the first reader of a version writes an Arrow file beside it, with the order of contents and
answers and the counts of filter values, into the work folder. It can be deleted at any time.
"""

import json
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from django.conf import settings
from numpy.typing import NDArray

from curation.models import StoredFile
from curation.services.files import local_path, work_folder

FORMAT = 2
MOST_BYTES = 20 * 1024**3
FACET_VALUES = 200
BATCH_ROWS = 65_536  # a multiple of 8: signatures pack eight rows a byte
SIGNATURE_BITS = 512
SHOWN_FEATURES = 8
_KEPT = ("example_id", "position", "split", "train_index", "probe_index", "label", "target")
_LAST = np.int64(2**32 - 1)


class ExampleIndex:
    """Reads one version's copy. Rows are numbered in upload order; every method is bounded work."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with pa.memory_map(str(folder / "examples.arrow")) as mapped:
            self.table = pa.ipc.open_file(mapped).read_all()
        self._starts = np.cumsum([0, *(len(batch) for batch in self.table.to_batches())])

    @property
    def columns(self) -> list[str]:
        return [name for name in self.table.column_names if name != "content"]

    @cached_property
    def facets(self) -> dict[str, Any]:
        """Column to `{"all" | "train" | "probe": [[value, count], …]}`, most frequent first."""
        found: dict[str, Any] = json.loads((self.folder / "facets.json").read_text())
        return found

    def array(self, name: str) -> NDArray[Any]:
        """`content_rank`, `answer_rank`, `train_rows` or `probe_rows`, memory-mapped."""
        mapped: NDArray[Any] = np.load(
            self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False
        )
        return mapped

    def matching(
        self,
        *,
        search: str = "",
        equal: dict[str, str] | None = None,
        example_ids: Sequence[str] = (),
    ) -> NDArray[np.int64] | None:
        """Ascending rows that hold `search` (in any case) and have these values; None for all."""
        masks = [pc.equal(self.table[name], value) for name, value in (equal or {}).items()]
        if example_ids:
            wanted = pa.array(list(example_ids), self.table.schema.field("example_id").type)
            masks.append(pc.is_in(self.table["example_id"], value_set=wanted))
        rows = _rows(masks) if masks else None
        if not search:
            return rows
        rows = self._may_hold(search, rows)
        if rows is None or len(rows) * 2 > len(self.table):
            return _rows([*masks, _holds(self.table["content"], search)])
        return rows[_rows([_holds(self.taken("content", rows), search)])]

    def _may_hold(self, search: str, among: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
        """Rows whose signature has every trigram of `search`; None where that says nothing."""
        wanted = np.unique(_trigrams(np.frombuffer(search.lower().encode(), np.uint8)))
        if not len(wanted):
            return among
        signature = self.array("trigrams")
        together = np.bitwise_and.reduce(signature[wanted], axis=0)
        found = np.unpackbits(together, count=len(self.table), bitorder="little")
        return np.flatnonzero(found) if among is None else among[found[among] > 0]

    def taken(self, name: str, rows: NDArray[np.int64]) -> pa.ChunkedArray:
        """Values of ascending rows, taken batch by batch: nothing is copied into one piece."""
        pieces, bounds = [], np.searchsorted(rows, self._starts)
        for chunk, start, low, high in zip(
            self.table[name].chunks, self._starts, bounds, bounds[1:], strict=False
        ):
            pieces.append(chunk.take(pa.array(rows[low:high] - start)))
        return pa.chunked_array(pieces, self.table.schema.field(name).type)

    def ordered(
        self,
        rows: NDArray[np.int64] | None,
        *,
        offset: int,
        limit: int,
        keys: NDArray[np.int64] | None = None,
        descending: bool = False,
    ) -> NDArray[np.int64]:
        """Rows `offset` to `offset + limit` in the order of `keys`, ties in upload order.

        `keys` holds one number in [0, 2³² − 1] for each row of the version; the largest means
        missing and comes last in either direction. Without keys the order is the upload's.
        """
        total = len(self.table) if rows is None else len(rows)
        stop = min(offset + limit, total)
        if offset >= stop:
            return np.empty(0, np.int64)
        if keys is None:
            if descending:
                offset, stop = total - stop, total - offset
            found = np.arange(offset, stop) if rows is None else rows[offset:stop]
            return found[::-1] if descending else found
        everything = np.arange(total) if rows is None else rows
        primary = np.asarray(keys, np.int64)[everything] if rows is not None else keys
        if descending:
            primary = np.where(primary == _LAST, _LAST, _LAST - 1 - primary)
        combined = (primary << 31) | everything
        chosen = np.argpartition(combined, (offset, stop - 1))[offset:stop]
        return everything[chosen[np.argsort(combined[chosen])]]

    def rows(self, numbers: Iterable[int], columns: Sequence[str]) -> list[dict[str, Any]]:
        """The rows with these numbers, in the given order."""
        wanted = np.fromiter(numbers, np.int64)
        batches = self.table.select(list(columns)).to_batches()
        places = np.searchsorted(self._starts, wanted, side="right") - 1
        found: dict[int, dict[str, Any]] = {}
        for place in np.unique(places):
            here = wanted[places == place]
            taken = batches[place].take(pa.array(here - self._starts[place]))
            found.update(zip(here.tolist(), taken.to_pylist(), strict=True))
        return [found[number] for number in wanted.tolist()]

    def score_keys(self, scores: NDArray[np.floating], *, magnitude: bool) -> NDArray[np.int64]:
        """Keys of `ordered` by score (or its size); rows without a finite score come last."""
        keys = np.full(len(self.table), _LAST)
        keys[self.array("train_rows")] = _sortable(np.abs(scores) if magnitude else scores)
        return keys

    def value_keys(self, values: NDArray[np.floating]) -> NDArray[np.int64]:
        """Keys of `ordered` by one number a row; rows without a finite one come last."""
        return _sortable(values)


def _trigrams(text: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The signature's bit of each three neighbouring bytes."""
    first, second, third = (text[k : len(text) - 2 + k].astype(np.uint32) for k in range(3))
    mixed = (first * 0x9E3779B1 ^ second * 0x85EBCA77 ^ third * 0xC2B2AE3D) & 0xFFFFFFFF
    return (mixed >> 15).astype(np.int64) % SIGNATURE_BITS


def _holds(values: pa.ChunkedArray, search: str) -> pa.ChunkedArray:
    return pc.match_substring(values, search, ignore_case=True)


def _rows(masks: Sequence[pa.ChunkedArray]) -> NDArray[np.int64]:
    """Rows where every mask is true."""
    together = masks[0]
    for mask in masks[1:]:
        together = pc.and_(together, mask)
    return np.flatnonzero(pc.fill_null(together, False).to_numpy())


def _sortable(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """Finite float32 scores as integers in [0, 2³² − 2] in the same order; others as the largest.

    The bits of floats sort like sign-magnitude integers.
    """
    values = np.asarray(scores, np.float32) + np.float32(0)  # −0 becomes 0
    bits = values.view(np.int32).astype(np.int64)
    ordered = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    return np.where(np.isfinite(values), ordered + 2**31, _LAST)


def open_index(stored: StoredFile) -> ExampleIndex:
    """The copy of a stored examples file, written now when there is none."""
    folder = _root() / f"{stored.sha256}-{FORMAT}"
    if not (folder / "facets.json").exists():
        _build(local_path(stored), folder)
    elif time.time() - folder.stat().st_mtime > 3600:
        os.utime(folder)
    return ExampleIndex(folder)


def _root() -> Path:
    return Path(settings.WORK_ROOT) / "example_indexes"


def _build(source: Path, folder: Path) -> None:
    """Write aside and rename; where two build at once, one of them wins."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _make_room(folder.parent)
    with work_folder() as scratch:
        aside = scratch / "index"
        aside.mkdir()
        _copy(source, aside / "examples.arrow")
        _describe(aside)
        try:
            aside.rename(folder)
        except OSError:
            if not (folder / "facets.json").exists():
                raise


def _copy(source: Path, target: Path) -> None:
    """Stream the columns that pages need; features and prompts become one text, `content`."""
    with pq.ParquetFile(source) as file:
        schema = file.schema_arrow
        kept = [name for name in schema.names if name in _KEPT or name.startswith("attribute_")]
        contents = [
            name for name in ("text", "prompt", "completion", "features") if name in schema.names
        ]
        written = pa.schema([*(schema.field(name) for name in kept), ("content", pa.string())])
        with pa.OSFile(str(target), "wb") as stream, pa.ipc.new_file(stream, written) as writer:
            for batch in file.iter_batches(BATCH_ROWS, columns=[*kept, *contents]):
                columns = [batch.column(name) for name in kept]
                writer.write_batch(pa.record_batch([*columns, _content(batch)], schema=written))


def _content(batch: pa.RecordBatch) -> pa.Array:
    names = batch.schema.names
    if "text" in names:
        return batch.column("text").cast(pa.string())
    if "prompt" in names:
        return pc.binary_join_element_wise(
            batch.column("prompt").cast(pa.string()),
            batch.column("completion").cast(pa.string()),
            " → ",
        )
    if "features" in names:
        shown = pc.list_slice(
            batch.column("features"), 0, SHOWN_FEATURES, return_fixed_size_list=False
        )
        return pa.array([", ".join(f"{x:.3g}" for x in row) for row in shown.to_pylist()])
    return pa.array(["image"] * len(batch))


def _describe(folder: Path) -> None:
    """Write the orders, the rows of each split, and the counts of filter values."""
    index = ExampleIndex(folder)
    table = index.table
    np.save(folder / "content_rank.npy", _rank(table["content"]))
    answer = next((name for name in ("label", "target") if name in table.column_names), "content")
    np.save(folder / "answer_rank.npy", _rank(table[answer]))
    split = table["split"].cast(pa.string())
    for name in ("train", "probe"):
        np.save(folder / f"{name}_rows.npy", _rows([pc.equal(split, name)]))
    _write_signatures(folder, table["content"])
    facets = {
        name: _facet(table[name], split)
        for name in table.column_names
        if name == "label" or name.startswith("attribute_")
    }
    (folder / "facets.json").write_text(json.dumps(facets))


def _write_signatures(folder: Path, contents: pa.ChunkedArray) -> None:
    """One row of bits for each trigram class: which contents hold one of that class, in any case.

    A search reads the few rows of its own trigrams and looks closely at what they leave
    (Faloutsos & Christodoulakis 1984, signature files, stored by bit slices).
    """
    signatures = np.lib.format.open_memmap(
        folder / "trigrams.npy", "w+", np.uint8, (SIGNATURE_BITS, -(-len(contents) // 8))
    )
    place = 0
    for chunk in contents.chunks:
        lowered = pc.utf8_lower(pc.fill_null(chunk, ""))
        offsets = np.frombuffer(lowered.buffers()[1], np.int32)[
            lowered.offset : lowered.offset + len(lowered) + 1
        ]
        data = lowered.buffers()[2]
        text = (
            np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]
            if data
            else np.empty(0, np.uint8)
        )
        bits = np.zeros((SIGNATURE_BITS, len(chunk)), bool)
        if len(text) > 2:
            row = np.repeat(np.arange(len(chunk)), np.diff(offsets))
            inside = row[:-2] == row[2:]
            bits[_trigrams(text)[inside], row[:-2][inside]] = True
        packed = np.packbits(bits, axis=1, bitorder="little")
        signatures[:, place : place + packed.shape[1]] = packed
        place += packed.shape[1]
    signatures.flush()


def _rank(values: pa.ChunkedArray) -> NDArray[np.uint32]:
    """Dense ranks: equal values share one, so that they keep the upload's order; missing last."""
    order = pc.sort_indices(values).to_numpy()
    changes = np.ones(len(order), bool)
    previous: Any = None
    for start in range(0, len(order), BATCH_ROWS):
        part = values.take(pa.array(order[start : start + BATCH_ROWS])).combine_chunks()
        if len(part) > 1:
            differs = pc.not_equal(part.slice(1), part.slice(0, len(part) - 1))
            changes[start + 1 : start + len(part)] = pc.fill_null(differs, True).to_numpy(
                zero_copy_only=False
            )
        changes[start] = previous is None or part[0].as_py() != previous
        previous = part[-1].as_py()
    ranks = np.empty(len(order), np.uint32)
    ranks[order] = np.cumsum(changes) - 1
    if values.null_count:
        ranks[pc.is_null(values).to_numpy()] = _LAST
    return ranks


def _facet(values: pa.ChunkedArray, split: pa.ChunkedArray) -> dict[str, list[list[Any]]]:
    """The most frequent values, in all and in each split."""
    parts = {"all": values} | {
        name: values.filter(pc.equal(split, name)) for name in ("train", "probe")
    }
    found = {}
    for name, part in parts.items():
        counts = pc.value_counts(part.drop_null().combine_chunks())
        pairs = zip(
            counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True
        )
        most = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:FACET_VALUES]
        found[name] = [list(pair) for pair in most]
    return found


def _make_room(root: Path) -> None:
    """Remove the copies used longest ago while all together are larger than they may be."""
    folders = [entry for entry in root.iterdir() if entry.is_dir()]
    sizes = {f: sum(file.stat().st_size for file in f.iterdir()) for f in folders}
    total = sum(sizes.values())
    for folder in sorted(folders, key=lambda entry: entry.stat().st_mtime):
        if total <= MOST_BYTES:
            return
        shutil.rmtree(folder, ignore_errors=True)
        total -= sizes[folder]

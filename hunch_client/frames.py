"""Turning what people have, frames and saved datasets, into a file that Hunch reads."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hunch_client.errors import HunchError


@contextmanager
def as_file(source: Any) -> Iterator[Path]:
    """A path with the content of `source`: a file, a saved dataset's folder, or a frame.

    Folders are those of Hugging Face `datasets` (`save_to_disk`) or hold Parquet files by split;
    frames are pandas', polars' or an Arrow table. They are converted to a temporary Parquet file.
    """
    if isinstance(source, str | Path) and Path(source).is_file():
        yield Path(source)
        return
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "dataset.parquet"
        if isinstance(source, str | Path):
            path = Path(source)
            if not path.is_dir():
                raise HunchError(f"There is no file or folder {path}.")
            target = target.with_name(f"{path.resolve().name or 'dataset'}.parquet")
            pq.write_table(table_of_folder(path), target)
        else:
            pq.write_table(table_of_frame(source), target)
        yield target


def table_of_frame(frame: Any) -> pa.Table:
    """An Arrow table of a pandas or polars frame, or of anything with Arrow's stream interface."""
    if isinstance(frame, pa.Table):
        return frame
    if hasattr(frame, "to_arrow"):
        return frame.to_arrow()
    if hasattr(frame, "__arrow_c_stream__"):
        return pa.table(frame)
    if type(frame).__module__.partition(".")[0] == "pandas":
        return pa.Table.from_pandas(frame, preserve_index=False)
    raise HunchError(f"A {type(frame).__name__} is neither a file nor a frame that can be read.")


def table_of_folder(path: Path) -> pa.Table:
    """One table of a saved dataset; several splits get a `split` column."""
    splits = _splits(path)
    if not splits:
        raise HunchError(f"{path} holds neither a saved dataset nor Parquet files.")
    tables = [
        table if len(splits) == 1 or "split" in table.column_names else _with_split(table, name)
        for name, table in splits.items()
    ]
    return pa.concat_tables(tables, promote_options="default")


def _splits(path: Path) -> dict[str, pa.Table]:
    listed = path / "dataset_dict.json"
    if listed.is_file():
        names = json.loads(listed.read_text())["splits"]
        return {name: _saved(path / Path(name).name) for name in names}
    if (path / "state.json").is_file():
        return {"train": _saved(path)}
    found: dict[str, list[Path]] = {}
    for file in sorted(path.rglob("*.parquet")):
        found.setdefault(file.name.partition("-")[0].removesuffix(".parquet"), []).append(file)
    return {
        name: pa.concat_tables([pq.read_table(file) for file in files], promote_options="default")
        for name, files in found.items()
    }


def _saved(path: Path) -> pa.Table:
    """The Arrow stream files that `save_to_disk` writes, in the order of its state file."""
    names = [
        entry["filename"] for entry in json.loads((path / "state.json").read_text())["_data_files"]
    ]
    tables = []
    for name in names:
        with pa.memory_map(str(path / Path(name).name)) as source:
            tables.append(pa.ipc.open_stream(source).read_all())
    return pa.concat_tables(tables)


def _with_split(table: pa.Table, name: str) -> pa.Table:
    return table.append_column("split", pa.array([name] * table.num_rows, pa.string()))

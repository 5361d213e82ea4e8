"""Arrow tables of frames and of saved datasets."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hunch_client.errors import HunchError


def write(table: pa.Table, target: Path) -> None:
    pq.write_table(table, target)


def table_of_frame(frame: Any) -> pa.Table:
    """An Arrow table of a frame, of anything with Arrow's stream interface, or of a dictionary of
    them by split, such as a `datasets.DatasetDict`."""
    if isinstance(frame, Mapping):
        return _joined({str(name): table_of_frame(one) for name, one in frame.items()})
    if isinstance(frame, pa.Table):
        return frame
    library = type(frame).__module__.partition(".")[0]
    if library == "datasets":
        return frame.with_format("arrow")[:]  # in the order and choice of `select` and `shuffle`
    if library == "pandas":
        return pa.Table.from_pandas(frame, preserve_index=False)
    if library == "polars" and hasattr(frame, "collect"):
        frame = frame.collect()
    if hasattr(frame, "to_arrow"):
        return frame.to_arrow()
    if hasattr(frame, "__arrow_c_stream__"):
        return pa.table(frame)
    raise HunchError(f"A {type(frame).__name__} is neither a file nor a frame that can be read.")


def table_of_folder(path: Path) -> pa.Table:
    """One table of a saved dataset; several splits get a `split` column."""
    splits = _splits(path)
    if not splits:
        raise HunchError(f"{path} holds neither a saved dataset nor Parquet files.")
    return _joined(splits)


def _joined(splits: Mapping[str, pa.Table]) -> pa.Table:
    tables = [
        table if len(splits) == 1 or "split" in table.column_names else _with_split(table, name)
        for name, table in splits.items()
    ]
    if not tables:
        raise HunchError("The dictionary holds no frame.")
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise HunchError(f"The splits do not have the same columns: {error}") from error


def _splits(path: Path) -> dict[str, pa.Table]:
    listed = path / "dataset_dict.json"
    if listed.is_file():
        names = json.loads(listed.read_text())["splits"]
        return {name: _saved(path / Path(name).name) for name in names}
    if (path / "state.json").is_file():
        return {"train": _saved(path)}
    found: dict[str, list[Path]] = {}
    for file in sorted(path.rglob("*.parquet")):
        found.setdefault(_split_of(file), []).append(file)
    return {
        name: pa.concat_tables([pq.read_table(file) for file in files], promote_options="default")
        for name, files in found.items()
    }


def _split_of(file: Path) -> str:
    """`train` of `train-00000-of-00002.parquet` and of `train/0000.parquet`, as on the Hub."""
    return file.parent.name if file.stem.isdigit() else file.stem.partition("-")[0]


def _saved(path: Path) -> pa.Table:
    """The Arrow stream files that `save_to_disk` writes, in the order of its state file."""
    state = json.loads((path / "state.json").read_text())
    tables = []
    for entry in state["_data_files"]:
        with pa.memory_map(str(path / Path(entry["filename"]).name)) as source:
            tables.append(pa.ipc.open_stream(source).read_all())
    return pa.concat_tables(tables)


def _with_split(table: pa.Table, name: str) -> pa.Table:
    return table.append_column("split", pa.array([name] * table.num_rows, pa.string()))

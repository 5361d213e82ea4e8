"""What people have, a file, a folder or a frame, as a file that can be sent.

Arrow is loaded only where something has to be converted.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hunch_client.errors import HunchError


@contextmanager
def as_file(source: Any) -> Iterator[Path]:
    """A path with the content of `source`: a file, a folder, or a frame.

    Folders are those of Hugging Face `datasets` (`save_to_disk`) or hold Parquet files by split,
    as on the Hub. Frames are pandas', polars', `datasets`' or Arrow's, or a dictionary of them by
    split. They are converted to a temporary Parquet file.

    Raises:
        HunchError: there is no such file, or this is nothing that can be read.
    """
    if isinstance(source, str | Path) and Path(source).is_file():
        yield Path(source)
        return
    if isinstance(source, str | Path) and not Path(source).is_dir():
        raise HunchError(f"There is no file or folder {source}.")
    try:
        from hunch_client import frames
    except ImportError as error:
        raise HunchError(
            "Folders and frames need pyarrow: pip install 'hunch-client[frames]'."
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "dataset.parquet"
        if isinstance(source, str | Path):
            path = Path(source).resolve()
            target = target.with_name(f"{path.name or 'dataset'}.parquet")
            frames.write(frames.table_of_folder(path), target)
        else:
            frames.write(frames.table_of_frame(source), target)
        yield target

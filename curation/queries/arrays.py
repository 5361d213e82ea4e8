"""Arrays in content-addressed files, memory-mapped once for each process."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.models import StoredFile
from curation.services.files import local_path


@lru_cache(maxsize=256)
def stored_array(stored: StoredFile) -> NDArray[Any]:
    """The array of a stored .npy file, read-only. Stored files never change.

    Raises:
        LostFile: storage has lost or changed the file.
    """
    mapped = np.load(local_path(stored), mmap_mode="r", allow_pickle=False)
    return np.asarray(mapped)  # a plain view of the map: its methods are faster

"""Names for the types of numpy arrays; shapes stand in docstrings."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]  # of any dtype: what a trace's member or a data set's file holds
Bools: TypeAlias = npt.NDArray[np.bool_]
Bytes: TypeAlias = npt.NDArray[np.uint8]  # packed masks, pixels, and masks of 0 and 1
Ints: TypeAlias = npt.NDArray[np.int64]  # counts: cycles, bytes, events
Floats: TypeAlias = npt.NDArray[np.floating[Any]]  # float16, float32 or float64
Float32s: TypeAlias = npt.NDArray[np.float32]
Float64s: TypeAlias = npt.NDArray[np.float64]
Words: TypeAlias = npt.NDArray[np.uint64]  # 64 bits, or the bytes of 8 channels, at a time

"""Settings of the process under which training is fast on a busy machine and gives the same bytes every time."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# From malloc.h. By default large blocks go back to the system after every iteration and come back cleared.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
KEPT_BYTES = (1 << 31) - 1


def prepare_process() -> None:
    """Makes OpenMP's threads wait without spinning, and lets the process keep freed memory.

    It has to be called before torch is imported. Threads that spin take the cores from each other when another process
    is busy. Environment variables that the user has set are left as they are. `tests/benchmarks/bench_train.py` times a
    step with and without these settings.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if sys.platform == "linux" and "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(M_MMAP_MAX, 0)
            libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


@contextmanager
def torch_session(threads: int = 1) -> Iterator[None]:
    """A block in which torch uses `threads` threads and deterministic algorithms only.

    Afterwards the settings before it return. The same number of threads gives the same bytes. Another number may add in
    another order, and so give others.
    """
    import torch

    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])

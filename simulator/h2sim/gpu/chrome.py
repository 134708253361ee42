"""Reads the Chrome traces that torch.profiler exports (export_chrome_trace), plain or gzipped."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from h2sim.errors import GpuTraceError, at
from h2sim.gpu.chrome_events import Sorter
from h2sim.gpu.jsonstream import CUT, ELEMENT, Malformed, NoList, items
from h2sim.gpu.profile import Profile
from h2sim.io.reading import Refused, check_file, opened

MOST_BYTES = 2 << 30  # of a trace, unpacked


def read_chrome(path: Path) -> Profile:
    """The profile in a Chrome trace. Raises GpuTraceError if the file is none, or a kernel's times are damaged."""
    sorter, devices = Sorter(str(path)), dict[int, str]()
    try:
        with _unpacked(path) as read:
            number = 0
            for key, value in items(read, "traceEvents", ("deviceProperties",)):
                if key == ELEMENT:
                    sorter.take(number, value)
                    number += 1
                elif key == CUT:
                    sorter.cut = True
                else:
                    devices = _devices(value)
    except NoList as fault:
        raise GpuTraceError(at(str(path), "traceEvents", "a list of events", fault)) from None
    except Malformed as fault:
        raise GpuTraceError(f"{path}: {fault}") from None
    except FileNotFoundError:
        raise GpuTraceError(f"{path}: no such file") from None
    except OSError as fault:
        raise GpuTraceError(f"{path}: cannot be read: {str(fault.strerror or fault)[:100]}") from None
    except (EOFError, zlib.error, ValueError, RecursionError) as fault:
        raise GpuTraceError(f"{path}: cannot be read: {str(fault)[:100]}") from None
    return sorter.profile(devices)


@contextmanager
def _unpacked(path: Path) -> Iterator[Callable[[int], bytes]]:
    """What reads the text of a file, gzipped or not, whatever it is called; at most MOST_BYTES of it."""
    check_file(path, MOST_BYTES)
    with opened(path, MOST_BYTES) as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        what = "a gzip file that unpacks to more" if packed else "more bytes than it said"
        source = gzip.GzipFile(fileobj=file) if packed else file
        yield _counted(source, path, f"{what}, where at most {MOST_BYTES} are read")


def _counted(source: IO[bytes] | gzip.GzipFile, path: Path, too_much: str) -> Callable[[int], bytes]:
    total = 0

    def read(most: int) -> bytes:
        nonlocal total
        block = source.read(most)
        total += len(block)
        if total > MOST_BYTES:
            raise Refused(path, too_much)
        return block

    return read


def _devices(listed: object) -> dict[int, str]:
    """Names of GPUs by their number; none for a number with two names, as where the files of two ranks were joined."""
    found: dict[int, str] = {}
    twice: set[int] = set()
    for place, each in enumerate(listed if isinstance(listed, list) else []):
        name = each.get("name") if isinstance(each, dict) else None
        if isinstance(name, str) and name:
            number = each.get("id")
            key = number if type(number) is int else place
            if found.setdefault(key, name) != name:
                twice.add(key)
    return {key: name for key, name in found.items() if key not in twice}

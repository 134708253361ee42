"""What Perfetto's trace processor does to complete ("X") slices, so that tests know which it would drop."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any


def dropped(events: Iterable[dict[str, Any]]) -> list[str]:
    """Names of the slices that overlap another of their track in part, which Perfetto leaves out.

    Per track (pid, tid), in order of time (file order where equal): open slices that have ended are closed; a slice
    that ends after the innermost open one is dropped. Times are whole ns, start and duration rounded each, half up.
    """
    tracks: dict[tuple[int, int], list[tuple[int, int, str]]] = {}
    for event in events:
        if event["ph"] == "X":
            slices = tracks.setdefault((event["pid"], event["tid"]), [])
            slices.append((_ns(event["ts"]), _ns(event["dur"]), event["name"]))
    lost = []
    for slices in tracks.values():
        open_: list[int] = []
        for start, length, name in sorted(slices, key=lambda each: each[0]):
            while open_ and open_[-1] <= start:
                open_.pop()
            if open_ and start + length > open_[-1]:
                lost.append(name)
            else:
                open_.append(start + length)
    return lost


def _ns(us: float) -> int:
    return math.floor(us * 1000 + 0.5)

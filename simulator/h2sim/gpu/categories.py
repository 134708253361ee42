"""What the events of a Chrome trace are: by their category, or by their shape where they have none."""

from __future__ import annotations

import re
from typing import Any, Literal

Sort = Literal["work", "launch", "op", "range", "passed", "unknown"]
OPS = {"cpu_op", "operator", "op"}
RANGES = {"user_annotation"}
PASSED = {
    "ac2g", "async_cpu_to_gpu", "async_gpu", "collective_comm", "cpu_instant_event", "cpu_profiler_range", "cuda_event",
    "cuda_profiler_range", "cuda_sync", "external_correlation", "fwdbwd", "forward_backward", "gpu_user_annotation",
    "module", "overhead", "python", "python_function", "pythonfunction", "trace", "tracing",
}  # fmt: skip
_WORK = re.compile(r"(^|_)(kernel|memcpy|memset)$")  # kernel, gpu_memcpy, concurrent_kernel
_LAUNCH = re.compile(r"(^|_)(runtime|driver)$")  # cuda_, hip_, xpu_, privateuse1_
_CALL = re.compile(r"(cuda|hip|cu|ze|ur|pi|acl|musa|sycl)[A-Z]\w*")
_OP = re.compile(r"\w+::|autograd::|\w*Backward\d*$")
_COPY = re.compile(r"mem(cpy|set)\b", re.IGNORECASE)
_OF_AN_OP = {"External id", "Sequence number", "Fwd thread id", "Input Dims", "Input dims", "Ev Idx"}
_PROCESS = re.compile(r"(?P<device>CUDA|GPU|HIP|XPU|PrivateUse1|device)? ?(?P<host>CPU)? ?functions", re.IGNORECASE)


def sort_of(entry: dict[str, Any]) -> Sort:
    """What kind of event this is. Of several categories ("kernel,foo") the first that is known counts."""
    said = entry.get("cat")
    tokens = [token.strip().lower() for token in said.split(",")] if isinstance(said, str) else []
    tokens = [token for token in tokens if token]
    if not tokens:
        return _by_shape(entry)
    known: list[Sort] = [sort for sort in map(_of_category, tokens) if sort != "unknown"]
    return known[0] if known else "unknown"


def _of_category(token: str) -> Sort:
    if token in PASSED:
        return "passed"
    if token in OPS or token in RANGES:
        return "op" if token in OPS else "range"
    if _WORK.search(token):
        return "work"
    return "launch" if _LAUNCH.search(token) else "unknown"


def _by_shape(entry: dict[str, Any]) -> Sort:
    """Without a category: by the process that PyTorch's older profiler names, by the arguments, by the name."""
    process = _PROCESS.fullmatch(entry["pid"]) if isinstance(entry.get("pid"), str) else None
    if process:
        return "op" if process["host"] else "work"
    args, name = entry.get("args"), entry.get("name")
    keys = args.keys() if isinstance(args, dict) else set[str]()
    name = name if isinstance(name, str) else ""
    if "stream" in keys:
        return "work" if keys & {"correlation", "grid", "block", "bytes"} or _COPY.match(name) else "unknown"
    if "correlation" in keys or _CALL.fullmatch(name):
        return "launch" if _CALL.fullmatch(name) else "unknown"
    return "op" if keys & _OF_AN_OP or _OP.match(name) else "range"

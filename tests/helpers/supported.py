"""The page of what the exporter takes, made of what the tests of tests/export exported and saw refused.

    H2SIM_SUPPORTED=reports/supported.md python -m pytest tests/export

writes the page when all of them have passed. Every row says by how many tests it was seen.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "H2SIM_SUPPORTED"
COMMAND = f"{VARIABLE}=reports/supported.md python -m pytest tests/export"
LIBRARIES = {"torch": "PyTorch", "spikingjelly": "SpikingJelly", "snntorch": "snnTorch", "norse": "Norse",
             "sinabs": "sinabs", "nir": "NIR"}  # fmt: skip
RULES = {
    "conv": "weights: `conv`, `encode` on the analog input",
    "linear": "weights: `fc`, a convolution of one position on the analog input",
    "norm of the step": "`norm` of the layer before it, or of its own; two passes, dense gradient",
    "fixed norm": "folded into the weights before it",
    "neuron of the source's equation": "Soma and Grad; spikes, membrane and gradient are checked by value",
    "neuron of a graph": "structure alone: of which layer it is the neuron",
    "neuron of another equation": "masks are exact, membrane and gradient are not checked",
    "read-out": "no layer",
    "read-out with weights": "weights: `fc`",
    "average": "`pool`: counts of spikes, a bit plane at a time; of currents in Soma",
    "maximum": "`pool`, mode max: spikes stay spikes; of currents in Soma, with its route",
    "sum of a window": "`pool`, mode sum: counts",
    "dropout": "`gate`: what it kept, and its scale",
    "sum": "`add`: currents under neurons; spikes to counts",
    "product of spikes": "`add`, op and, and_not",
    "concatenation": "`concat`",
    "enlargement": "`upsample`",
    "relu": "`relu`: analog; of spikes and counts a `gate` of its gradient",
    "factor": "folded into weights, else a `gate` that keeps all",
    "mean over time": "`mean_over_time` of the last `fc`",
}
OF_MAPS = {
    "gate": "dropout", "add": "sum", "concat": "concatenation", "upsample": "enlargement", "relu": "relu",
    "scale": "factor", "mean": "mean over time",
}  # fmt: skip
OF_NIR = {
    "Conv2d": "conv", "Linear": "linear", "Affine": "linear", "AvgPool2d": "average", "SumPool2d": "sum of a window",
    "Scale": "factor", "LIF": "neuron of a graph", "CubaLIF": "neuron of a graph", "IF": "neuron of a graph",
    "LI": "read-out", "CubaLI": "read-out", "I": "read-out",
}  # fmt: skip
_REFUSED = re.compile(r"(?P<kind>\w+): cannot be exported: (?P<reason>.*)")
_ON_THE_WAY = re.compile(r"got (?P<got>.*) on the way")


class Seen:
    """What one session of tests saw: {(library, module, part): tests} and {(what, reason): tests}."""

    def __init__(self) -> None:
        self.taken: dict[tuple[str, str, str], set[str]] = defaultdict(set)
        self.refused: dict[tuple[str, str], set[str]] = defaultdict(set)
        self.failed: list[str] = []
        self._now: list[Callable[[str], None]] = []

    def start(self) -> None:
        """Forgets what an earlier test left."""
        self._now = []

    def end(self, test: str, passed: bool) -> None:
        """Keeps what a test saw, if it passed."""
        self.failed += [] if passed else [test]
        for keep in self._now if passed else ():
            keep(test)
        self._now = []

    def reading(self, recorder: Any, reading: Any) -> None:
        """A forward pass that was read."""
        modules = {found.path: type(found.module) for found in recorder.found}
        for path, found in reading.step.modules.items():
            self._take(type(found.module), _part(found, path in reading.live))
        for made in reading.step.maps.values():
            if made.kind not in ("not", "sign"):
                path = re.sub(r"-\d+$", "", made.name)
                module = None if made.implied else modules.get(made.name, modules.get(path))
                self._take(module, _part_of_map(made))

    def graph(self, kinds: Any) -> None:
        """A NIR graph that was read: the kinds of its nodes."""
        for kind in kinds:
            if kind in OF_NIR:
                self._keep("NIR", kind, OF_NIR[kind])

    def _take(self, module: type | None, part: str) -> None:
        self._keep(*_named(module), part)

    def _keep(self, library: str, name: str, part: str) -> None:
        if library:
            self._now.append(lambda test: self.taken[library, name, part].add(test))

    def obstacles(self, found: Any) -> None:
        """What stood in the way of an export."""
        for obstacle in found:
            said = _REFUSED.search(obstacle.why) or _ON_THE_WAY.search(obstacle.why)
            if said:
                parts = said.groupdict()
                what = parts.get("kind") or "an operation between layers"
                reason = (parts.get("reason") or parts["got"]) + (f" ({obstacle.rewrite})" if obstacle.rewrite else "")
                self._now.append(lambda test, key=(what, reason): self.refused[key].add(test))  # type: ignore[misc]


def _named(module: type | None) -> tuple[str, str]:
    """(library, class) of the first class of a library that a module inherits from; ('', '') for one's own."""
    if module is None:
        return "any", "function or arithmetic"
    for cls in module.__mro__:
        root = cls.__module__.partition(".")[0]
        if root in LIBRARIES and cls.__name__ != "Module":
            return LIBRARIES[root], cls.__name__
    return "", ""


def _part(found: Any, live: bool) -> str:
    role = found.role
    if role.neuron is not None:
        return "neuron of the source's equation" if role.neuron.equation == "lif" else "neuron of another equation"
    if role.readout is not None:
        return "read-out" if role.readout.weight is None else "read-out with weights"
    if role.name == "norm":
        return "norm of the step" if live else "fixed norm"
    return str(role.name)


def _part_of_map(made: Any) -> str:
    if made.kind == "pool":
        return {"max": "maximum", "sum": "sum of a window"}.get(made.entry.get("mode", ""), "average")
    if made.label == "relu":
        return "relu"
    return "product of spikes" if "op" in made.entry else OF_MAPS[made.kind]


def watch(seen: Seen) -> None:
    """Makes the exporter tell what it reads and what it refuses, for the whole session."""
    from h2sim.export import forward, nirnodes, reading
    from h2sim.export.obstacles import Obstacles

    read, check, of_graph = reading.read_step, Obstacles.check, nirnodes.Reader.pieces

    def watched(recorder: Any, *args: Any, **options: Any) -> Any:
        found = read(recorder, *args, **options)
        if found is not None:
            seen.reading(recorder, found)
        return found

    def checked(self: Any) -> None:
        seen.obstacles(self.found)
        check(self)

    def pieces(self: Any, analog: bool) -> Any:
        found = of_graph(self, analog)
        if not self.obstacles:
            seen.graph(self.flat.kinds.values())
        return found

    nirnodes.Reader.pieces = pieces  # type: ignore[method-assign]
    setattr(forward, "read_step", watched)  # noqa: B010  # it is imported there, and not exported
    Obstacles.check = checked  # type: ignore[method-assign]


def page(seen: Seen) -> str:
    """The page in Markdown."""
    lines = [
        "# What can be exported",
        "",
        "Made by the tests: each row was exported, or refused, by so many of them.",
        "",
        f"    {COMMAND}",
        "",
        "`h2sim.export.check(model, inputs)` says it of a model of yours. A module that is listed nowhere is followed",
        "operation by operation; a neuron says what it is by a method `h2sim_neuron`.",
        "",
        "| library | module | part | rule | tests |",
        "|---|---|---|---|---:|",
    ]
    for (library, name, part), tests in sorted(seen.taken.items()):
        lines.append(f"| {library} | `{name}` | {part} | {RULES[part]} | {len(tests)} |")
    lines += ["", "Refused:", "", "| what | why, and what would do | tests |", "|---|---|---:|"]
    for (what, reason), tests in sorted(seen.refused.items()):
        lines.append(f"| {what} | {reason.replace('|', '/')} | {len(tests)} |")
    return "\n".join(lines) + "\n"


def write(seen: Seen, path: str, config: pytest.Config) -> str:
    """Writes the page, unless a test failed or only some were asked for; returns why not."""
    some = [config.getoption(option) for option in ("keyword", "markexpr") if config.getoption(option)]
    if seen.failed or some:
        why = f"failed: {', '.join(seen.failed)}" if seen.failed else f"only some of the tests ran: {some[0]}"
        return f"{path}: not written: {why}"
    Path(path).write_text(page(seen), encoding="utf-8")
    return ""

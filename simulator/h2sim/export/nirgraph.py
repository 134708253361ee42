"""A NIR graph with the graphs in it written out: nodes by dotted name, who reads whom, and an order to read them in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import nir

from h2sim.export.nirfields import fault
from h2sim.export.structure import INPUT
from h2sim.io.faults import show
from h2sim.trace.model import MOST_LAYERS

MOST_NODES = 4 * MOST_LAYERS
MOST_EDGES = 1 << 18
MOST_NESTED = 8
PASS = "pass"  # what an Input or Output of a graph in the graph is: it gives on what it reads
_PASSING = (PASS, "Flatten")


@dataclass
class Flat:
    """The nodes of a graph and of the graphs in it. kinds: their classes' names; before: whom each reads."""

    input: str = ""
    nodes: dict[str, Any] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    before: dict[str, list[str]] = field(default_factory=dict)
    after: dict[str, list[str]] = field(default_factory=dict)

    def order(self) -> tuple[list[str], list[str]]:
        """The nodes, each after what it reads, else as in the graph; and those that stand in a cycle."""
        place = {key: number for number, key in enumerate(self.nodes)}
        missing = {key: len(starts) for key, starts in self.before.items()}
        ordered: list[str] = []
        ready = [key for key, count in missing.items() if not count]
        while ready:
            ordered += ready
            ended = [end for key in ready for end in self.after[key]]
            for end in ended:
                missing[end] -= 1
            ready = sorted({end for end in ended if not missing[end]}, key=place.__getitem__)
        return ordered, self._looped({key for key, count in missing.items() if count})

    def _looped(self, left: set[str]) -> list[str]:
        """Of the nodes behind a cycle those that lead back into one."""
        leads = {key: sum(end in left for end in self.after[key]) for key in left}
        ends = [key for key, count in leads.items() if not count]
        while ends:
            key = ends.pop()
            left.discard(key)
            for start in self.before[key]:
                if start in left:
                    leads[start] -= 1
                    if not leads[start]:
                        ends.append(start)
        return [key for key in self.nodes if key in left]

    def readers(self, key: str) -> Iterator[tuple[str, bool]]:
        """Who reads a node, also through what only gives on, and whether it reads nothing else."""
        pending = [(reader, True) for reader in self.after[key]]
        while pending:
            reader, alone = pending.pop()
            alone = alone and len(self.before[reader]) == 1
            if alone and self.kinds[reader] in _PASSING:
                pending += [(behind, True) for behind in self.after[reader]]
            else:
                yield reader, alone


def flattened(graph: nir.NIRGraph) -> Flat:
    """Raises ExportError for a graph without one Input, for edges that are none, and for too many nodes or graphs."""
    flat = Flat()
    _Flattener(flat).put(graph, "", 0)
    inputs = [key for key, kind in flat.kinds.items() if kind == "Input"]
    if len(inputs) != 1:
        raise fault("Input", "one node", len(inputs))
    if INPUT in flat.nodes:
        raise fault(INPUT, "another name of a node", "this one, which stands for the input")
    flat.input = inputs[0]
    for starts in flat.before.values():
        starts[:] = sorted(set(starts))  # exporters write edges in any order
    for end, starts in flat.before.items():
        for start in starts:
            flat.after[start].append(end)
    return flat


@dataclass(frozen=True)
class _End:
    """What an edge to a node of a graph leads to, and where one from it starts. kind: '' of a graph in the graph."""

    kind: str
    entries: list[str]
    exits: list[str]


class _Flattener:
    def __init__(self, flat: Flat) -> None:
        self.flat, self.n_nodes, self.n_edges = flat, 0, 0

    def put(self, graph: nir.NIRGraph, name: str, depth: int) -> _End:
        """Adds a graph's nodes and edges, all of whose names begin with its own."""
        if depth > MOST_NESTED:
            raise fault(name, f"graphs in graphs at most {MOST_NESTED} deep", "deeper, or one that holds itself")
        self._count(graph, name)
        ends: dict[str, _End] = {}
        for key, node in graph.nodes.items():
            full = f"{name}.{key}" if name else str(key)
            ends[str(key)] = (
                self.put(node, full, depth + 1) if isinstance(node, nir.NIRGraph) else self._end(full, node)
            )
            if depth and ends[str(key)].kind in ("Input", "Output"):
                self.flat.kinds[full] = PASS
        for start, end in self._pairs(graph, name):
            self._edge(start, end, ends, name)
        entries = [each.entries[0] for each in ends.values() if each.kind == "Input"]
        exits = [each.exits[0] for each in ends.values() if each.kind == "Output"]
        return _End("", entries, exits)

    def _count(self, graph: nir.NIRGraph, name: str) -> None:
        if not isinstance(graph.nodes, dict):
            raise fault(_of(name, "nodes"), "nodes by name", show(graph.nodes))
        self.n_nodes += len(graph.nodes)
        if self.n_nodes > MOST_NODES:
            raise fault(_of(name, "nodes"), f"at most {MOST_NODES}", self.n_nodes)

    def _end(self, full: str, node: Any) -> _End:
        flat, kind = self.flat, type(node).__name__
        if full in flat.nodes:
            raise fault("nodes", "names of their own", f"{full} twice")
        flat.nodes[full], flat.kinds[full], flat.before[full], flat.after[full] = node, kind, [], []
        return _End(kind, [full], [full])

    def _pairs(self, graph: nir.NIRGraph, name: str) -> list[tuple[str, str]]:
        try:
            pairs = [(str(start), str(end)) for start, end in graph.edges]
        except (TypeError, ValueError):
            raise fault(_of(name, "edges"), "pairs of names", show(graph.edges)) from None
        self.n_edges += len(pairs)
        if self.n_edges > MOST_EDGES:
            raise fault(_of(name, "edges"), f"at most {MOST_EDGES}", self.n_edges)
        return pairs

    def _edge(self, start: str, end: str, ends: Mapping[str, _End], name: str) -> None:
        shown = f"{start} to {end}"
        if start not in ends or end not in ends:
            raise fault(_of(name, "edges"), "names of nodes", shown)
        if ends[start].kind == "Output" or ends[end].kind == "Input":
            raise fault(_of(name, "edges"), "none from an Output or to the Input", shown)
        (first,) = self._single(_of(name, start), ends[start].exits, "Output")
        (last,) = self._single(_of(name, end), ends[end].entries, "Input")
        self.flat.before[last].append(first)

    @staticmethod
    def _single(name: str, found: list[str], kind: str) -> list[str]:
        if len(found) != 1:
            raise fault(name, f"one {kind} of a graph in the graph", len(found), "write its nodes into the outer graph")
        return found


def _of(name: str, what: str) -> str:
    return f"{name}.{what}" if name else what

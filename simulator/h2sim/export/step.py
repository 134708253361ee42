"""A recorded step as tensors (T, N, ...) by module path, and the check that modules read what others sent."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from h2sim.errors import ExportError, at
from h2sim.export.hooks import Recorded
from h2sim.export.layout import Extent, gradients, values
from h2sim.export.roles import geometry
from h2sim.export.structure import INPUT, Node

_RANK = {"conv": 3, "pool": 3, "linear": 1}


@dataclass(frozen=True)
class Step:
    """A recorded step.

    modules: by path, in the order of calls; reads: the modules whose sum each reads; extent: timesteps and samples;
    batch: samples to keep; penalised: ids of the parameters whose gradient a penalty of the loss changed; notes: on
    what was seen beside the modules. Tensors are (T, N, ...), or (1, N, ...) where one call served all timesteps; they
    are float32, or float64 if the model's are.
    """

    modules: dict[str, Recorded]
    reads: dict[str, tuple[str, ...]]
    extent: Extent
    batch: int
    penalised: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()

    def read(self, path: str) -> torch.Tensor:
        """What a module read."""
        found = self.modules[path]
        return self._cut(values(found.reads, self.extent, self._rank(path), self.kind(path)))

    def sent(self, path: str) -> torch.Tensor:
        """What a module sent."""
        found = self.modules[path]
        return self._cut(values(found.sends, self.extent, self._rank(path), self.kind(path)))

    def grad_read(self, path: str) -> torch.Tensor:
        """dL/d(what a module read)."""
        found = self.modules[path]
        return self._cut(gradients(found.reads, self.extent, self._rank(path), self.kind(path)))

    def grad_sent(self, path: str) -> torch.Tensor:
        """dL/d(what a module sent)."""
        found = self.modules[path]
        return self._cut(gradients(found.sends, self.extent, self._rank(path), self.kind(path)))

    def readers(self, path: str) -> list[str]:
        """The modules that read what a module sends."""
        return [reader for reader, terms in self.reads.items() if path in terms]

    def kind(self, path: str) -> str:
        """The module's class."""
        return type(self.modules[path].module).__name__

    def node(self, path: str) -> Node:
        """The module as `structure` takes it. Raises ExportError for a pool that does not fit its input."""
        found = self.modules[path]
        role = found.role.name or ""
        in_shape, out_shape = self._sample(path, False), self._sample(path, True)
        spatial = role in ("conv", "pool") and len(in_shape) == 3
        shapes = geometry(found.module, (in_shape[1], in_shape[2]), path) if spatial else None
        return Node(
            name=path, role=role, inputs=self.reads[path], in_shape=in_shape, out_shape=out_shape, geometry=shapes
        )

    def _sample(self, path: str, output: bool) -> tuple[int, ...]:
        """Shape of one sample at one timestep."""
        found, rank = self.modules[path], self._rank(path)
        shape = tuple((found.sends if output else found.reads)[0].value.shape)
        if rank is not None:
            return shape[-rank:]
        spec = found.role.neuron
        return shape[2 if spec is not None and spec.multi_step else 1 :]

    def _rank(self, path: str) -> int | None:
        return _RANK.get(self.modules[path].role.name or "")

    def _cut(self, tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor[:, : self.batch]
        return tensor if tensor.dtype == torch.float64 else tensor.float()


def check_reads(step: Step) -> None:
    """Raises ExportError where a module did not read what the graph says, or a neuron sent something else than spikes.

    A sum may differ by rounding. Anything else must be equal; if it was flattened, in the order (C, H, W).
    """
    for path, found in step.modules.items():
        if found.role.neuron is not None:
            sent = step.sent(path)
            wrong = (sent != 0) & (sent != 1)
            if bool(wrong.any()):
                raise ExportError(at(path, "spikes", "0 or 1", f"{float(sent[wrong][0]):g}"))
    for path, terms in step.reads.items():
        if terms != (INPUT,):
            _check_read(step, path, terms)


def _check_read(step: Step, path: str, terms: tuple[str, ...]) -> None:
    parts = [network_input(step) if term == INPUT else step.sent(term) for term in terms]
    read, sent = step.read(path).flatten(2), [part.flatten(2) for part in parts]
    wanted = f"what {' + '.join(terms)} sent"
    for part in sent:
        if part.shape[2] != read.shape[2] or part.shape[0] > read.shape[0]:
            raise ExportError(at(path, "reads", f"{wanted}, {tuple(part.shape)}", tuple(read.shape)))
    if len(sent) == 1 and torch.equal(read, sent[0].expand_as(read)):
        return
    total = torch.stack([part.expand_as(read) for part in sent]).sum(0)
    slack = torch.zeros_like(total)
    if len(terms) > 1:
        eps = torch.finfo(step.modules[path].reads[0].value.dtype).eps
        slack = 4 * len(terms) * eps * torch.stack([part.expand_as(read).abs() for part in sent]).sum(0)
    wrong = (read - total).abs() > slack
    if bool(wrong.any()):
        got = f"{int(wrong.sum())} of {wrong.numel()} other values: something unseen between them"
        raise ExportError(at(path, "reads", wanted, got))


def network_input(step: Step) -> torch.Tensor:
    """The network input (T or 1, N, ...) as its readers saw it. Raises ExportError if they saw different ones."""
    readers = [path for path, terms in step.reads.items() if terms == (INPUT,)]
    if not readers:
        raise ExportError(at("model", "network input", "a layer that reads nothing else", "none"))
    first = step.read(readers[0])
    for path in readers[1:]:
        other = step.read(path)
        same = first.flatten(2).shape[1:] == other.flatten(2).shape[1:]
        full = max(first.shape[0], other.shape[0])
        if not same or not torch.equal(_steps(first, full).flatten(2), _steps(other, full).flatten(2)):
            wanted = f"the network input as {readers[0]!r} reads it"
            raise ExportError(at(path, "reads", wanted, "other values without gradient: detached, or a second input"))
    return first[:1] if bool((first == first[:1]).all()) else first


def _steps(tensor: torch.Tensor, timesteps: int) -> torch.Tensor:
    return tensor.expand(timesteps, *tensor.shape[1:])

"""Which backward job brings which map its gradient, and which job completes it.

A job is that of a layer with weights or neurons. What makes one map out of others has none, but where nothing reads it:
Grad carries a gradient through it in the job that completes it. A map that several jobs reach collects parts: each but
the last of them to run leaves one, and the last adds them to its own and goes on below.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from h2sim.trace.model import VERSION, Layer, TraceMeta


@dataclass(frozen=True)
class Share:
    """What a job does to the gradient of a map: completes it, with the parts of `others` jobs, or leaves a part."""

    name: str
    complete: bool
    others: int


class Gradients:
    """The backward pass of a network; its jobs run from the last layer to the first."""

    def __init__(self, meta: TraceMeta) -> None:
        self._layers = {layer.name: layer for layer in meta.layers}
        self._order = {layer.name: number for number, layer in enumerate(meta.layers)}
        self._readers: dict[str, list[Layer]] = {name: [] for name in ("input", *self._layers)}
        for layer in meta.layers:
            for name in dict.fromkeys(layer.inputs):
                self._readers[name].append(layer)
        self._first_version = meta.version == VERSION
        self._of_input = meta.input_gradient and "backward" in meta.phases
        self.jobs_of = cache(self._jobs_of)
        self.trained = cache(self._trained)

    def has_job(self, layer: Layer) -> bool:
        """Whether a layer has a job of its own: what it is made of has, and what brings the loss's gradient to a map.

        In version 1 every layer has: a sum without neuron is one that a trace has a gradient of.
        """
        return not self.is_routed(layer) or not self._readers[layer.name]

    def is_routed(self, layer: Layer) -> bool:
        """Whether a gradient only passes through a layer, which has neither weights nor neurons."""
        return layer.is_map and not self._first_version

    def _jobs_of(self, name: str) -> tuple[str, ...]:
        """The jobs that bring a map its gradient, in the order in which they run."""
        found = set()
        for reader in self._readers[name]:
            if self.has_job(reader):
                found.add(reader.name)
            elif jobs := self.jobs_of(reader.name):
                found.add(jobs[-1])  # a map hands on what is complete
        return tuple(sorted(found, key=lambda job: -self._order[job]))

    def _trained(self, name: str) -> bool:
        """Whether a map's gradient goes on to weights below it, or to the input where that is asked for; a step of
        version 1 asks for every one."""
        if name == "input":
            return self._of_input
        layer = self._layers[name]
        return self._first_version or layer.has_weights or any(map(self.trained, layer.inputs))

    def shares(self, job: str) -> list[Share]:
        """What the job of a layer does to the gradients of the maps that it reaches, from the last to the first."""
        found = []
        for name in (*reversed(self._layers), "input"):
            jobs = self.jobs_of(name)
            if job in jobs and self.trained(name):
                found.append(Share(name, jobs[-1] == job, len(jobs) - 1))
        return found

"""A recorded step as tensors (T, N, ...) by module path, with the maps between modules computed again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from h2sim.errors import ExportError, at
from h2sim.export.hooks import Recorded
from h2sim.export.layout import Extent, gradients, stacked, values
from h2sim.export.maps import Map, Shape
from h2sim.export.obstacles import Obstacles
from h2sim.export.roles import conv_geometry
from h2sim.export.structure import INPUT, Node, chw
from h2sim.export.torchmaps import MAKERS, at_places, places_of_maxima, routes, shaped
from h2sim.trace import Layer

_RANK = {"conv": 3, "linear": 1, "readout": 1}
_NEURON = {"threshold": 1.0, "decay": 0.0, "window": (0.0, 1.0)}


@dataclass
class Tensors:
    """What recorded modules read and sent, values and gradients, as (T, N, ...) on the CPU.

    They are (1, N, ...) where one call served all timesteps, of the first `batch` samples, and float32, or float64 if
    the model's are. Each is made once.
    """

    modules: Mapping[str, Recorded]
    extent: Extent
    batch: int
    _made: dict[tuple[str, str], torch.Tensor] = field(default_factory=dict)

    def read(self, path: str) -> torch.Tensor:
        """What a module read."""
        return self._of(path, "read")

    def sent(self, path: str) -> torch.Tensor:
        """What a module sent."""
        return self._of(path, "sent")

    def grad_read(self, path: str) -> torch.Tensor:
        """dL/d(what a module read), as far as that module hands it on."""
        return self._of(path, "grad_read")

    def grad_sent(self, path: str) -> torch.Tensor:
        """dL/d(what a module sent)."""
        return self._of(path, "grad_sent")

    def kind(self, path: str) -> str:
        """The module's class."""
        return type(self.modules[path].module).__name__

    def sample(self, path: str, what: str) -> Shape:
        """Shape of one sample at one timestep of what a module read or sent."""
        return tuple(self._of(path, what).shape[2:])

    def rank(self, path: str) -> int | None:
        """Dimensions of a sample of what a module reads and sends, where its class says how many."""
        return _RANK.get(self.modules[path].role.name or "")

    def _of(self, path: str, what: str) -> torch.Tensor:
        if (path, what) not in self._made:
            found = self.modules[path]
            edges = found.sends if what.endswith("sent") else found.reads
            of = gradients if what.startswith("grad") else values
            tensor = of(edges, self.extent, self.rank(path), self.kind(path))[:, : self.batch]
            self._made[path, what] = tensor if tensor.dtype == torch.float64 else tensor.float()
        return self._made[path, what]


@dataclass(frozen=True)
class Step:
    """A recorded step.

    tensors: of its modules, which are in the order of calls; sources: the module, map or INPUT that each reads; maps:
    what stands between, each after its inputs; inputs: (T or 1, N, ...), the network input as its readers saw it;
    membranes: m of each neuron, by path; penalised: ids of the parameters whose gradient a penalty of the loss changed;
    notes: on what was seen beside the modules.
    """

    tensors: Tensors
    sources: Mapping[str, str]
    maps: Mapping[str, Map]
    inputs: torch.Tensor
    membranes: Mapping[str, torch.Tensor] = field(default_factory=dict)
    penalised: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()

    @property
    def modules(self) -> Mapping[str, Recorded]:
        """The recorded modules by path."""
        return self.tensors.modules

    @property
    def extent(self) -> Extent:
        """Timesteps and samples."""
        return self.tensors.extent

    @property
    def batch(self) -> int:
        """Samples that are kept."""
        return self.tensors.batch

    def node(self, name: str) -> Node:
        """A module or map as `structure` takes it, but for what a norm is."""
        if name in self.maps:
            made = self.maps[name]
            return Node(name=name, role=made.kind, inputs=made.inputs, in_shape=made.in_shape,
                        out_shape=made.out_shape, entry=made.entry, factor=made.factor,
                        implied=made.implied)  # fmt: skip
        found = self.modules[name]
        role = "linear" if found.role.name == "readout" else str(found.role.name)
        return Node(
            name=name,
            role=role,
            inputs=(self.sources[name],),
            in_shape=self.tensors.sample(name, "read"),
            out_shape=self.tensors.sample(name, "sent"),
            entry=conv_geometry(found.module) if role == "conv" else {},
        )

    def names(self) -> list[str]:
        """Modules and maps in an order in which each comes after what it reads."""
        found: dict[str, None] = {}

        def visit(name: str) -> None:
            pending = [name]
            while pending:
                top = pending[-1]
                reads = self.maps[top].inputs if top in self.maps else (self.sources[top],)
                missing = [each for each in reads if each != INPUT and each not in found and each not in pending]
                if missing and top not in found:
                    pending += missing
                    continue
                found.setdefault(top)
                pending.pop()

        for path in self.sources:
            visit(path)
        return list(found)

    def readers(self, name: str) -> list[str]:
        """The modules and maps that read a module, a map or the input."""
        modules = [path for path, source in self.sources.items() if source == name]
        return modules + [each.name for each in self.maps.values() if name in each.inputs]


class Replay:
    """The maps of a step, computed again from what its modules sent."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self._values: dict[str, torch.Tensor] = {}
        self._gradients: dict[str, torch.Tensor] = {}
        self._layers: dict[str, Layer] = {}
        self._kept: dict[str, torch.Tensor] = {}
        self._places: dict[str, torch.Tensor] = {}  # of maxima, in their channels

    def value(self, name: str) -> torch.Tensor:
        """(T or 1, N, ...) of a module's output, a map, or the network input."""
        if name == INPUT:
            return self.step.inputs
        if name not in self.step.maps:
            return self.step.tensors.sent(name)
        if name not in self._values:
            made = self.step.maps[name]
            reads = [self.value(source) for source in made.inputs]
            if made.kind == "pool" and made.entry.get("mode") == "max":
                self._places[name] = self._maxima(made, reads[0])
            self._values[name] = self.made(made, reads, self._places.get(name))
        return self._values[name]

    def _maxima(self, made: Map, x: torch.Tensor) -> torch.Tensor:
        layer = self.layer(made)
        return places_of_maxima(layer, shaped(x, layer.in_chw))

    def size(self, name: str) -> torch.Tensor:
        """The sum of the absolute values that a value is made of, by which rounding scales."""
        if name not in self.step.maps:
            return self.value(name).abs()
        made = self.step.maps[name]
        return self.made(made, [self.size(source) for source in made.inputs]).abs()

    def layer(self, made: Map) -> Layer:
        """A map as a layer of a trace."""
        if made.name not in self._layers:
            entry = {"name": "map", "kind": made.kind, "inputs": ["input"] * max(1, len(made.inputs)), **made.entry}
            shapes = {"in_shape": chw(made.in_shape), "out_shape": chw(made.out_shape)}
            spiking = {"spiking": False} if made.kind in ("pool", "add") else {}
            self._layers[made.name] = Layer.model_validate({**entry, **shapes, **spiking, "neuron": _NEURON})
        return self._layers[made.name]

    def made(self, made: Map, reads: list[torch.Tensor], places: torch.Tensor | None = None) -> torch.Tensor:
        """What a map makes of what it reads, (T or 1, N, ...). places: of the maxima, if they are known."""
        if len({x.shape[0] for x in reads}) > 1:
            steps = max(x.shape[0] for x in reads)
            reads = [x.expand(steps, *x.shape[1:]) for x in reads]
        x = reads[0]
        if made.kind == "mean":
            return x.mean(0, keepdim=True)
        if made.kind == "scale":
            return x * float(made.factor)
        if made.kind in ("not", "sign"):
            return 1 - x if made.kind == "not" else x.sign()
        if made.kind == "gate":
            return x * self.kept(made).to(x).reshape(-1, *x.shape[1:]) * float(made.factor)
        layer = self.layer(made)
        if made.kind == "pool" and layer.mode == "max":
            return at_places(shaped(x, layer.in_chw), self._maxima(made, x) if places is None else places)
        return MAKERS[made.kind](layer, reads)

    def kept(self, made: Map) -> torch.Tensor:
        """The mask of a gate, bool (T or 1, N, ...); a gate of all timesteps has one mask for them."""
        if made.name not in self._kept:
            extent, where = self.step.extent, (made.name, "dropout")
            masks = [mask.cpu() for mask in made.factors]
            mask = stacked(masks, extent, None, where)[:, : self.step.batch]
            self._kept[made.name] = mask[:1] if bool((mask == mask[:1]).all()) else mask
        return self._kept[made.name]

    def route(self, made: Map) -> torch.Tensor:
        """Which element of its window a maximum gives on, (T, N, C, H, W)."""
        self.value(made.name)
        return routes(self.layer(made), self._places[made.name])

    def gradient(self, name: str) -> torch.Tensor:
        """dL/d(value) at each timestep, (T, N, ...), as the readers of a module or map hand it on.

        It is (1, N, ...) of a mean over time and of what stands behind one.
        Raises ExportError where one call of a reader served all timesteps, and what it read stands still.
        """
        if name in self._gradients:
            return self._gradients[name]
        value, steps = self.value(name), self._steps(name)
        total = torch.zeros((steps, *value.shape[1:]), dtype=value.dtype)
        for reader in self.step.readers(name):
            total += self._from(reader, name, value, steps)
        self._gradients[name] = total
        return total

    def _steps(self, name: str) -> int:
        """Timesteps of a gradient: 1 of a mean over time and of what stands behind one."""
        made = self.step.maps.get(name)
        if made is None:
            return self.step.extent.timesteps
        return 1 if made.kind == "mean" else min(map(self._steps, made.inputs))

    def _from(self, reader: str, name: str, value: torch.Tensor, steps: int) -> torch.Tensor:
        if reader not in self.step.maps:
            grad = self.step.tensors.grad_read(reader)
            if grad.shape[0] < steps:
                wanted = "a call per timestep, or a neuron or a map behind a static current"
                raise ExportError(at(name, "calls", wanted, f"{reader!r} behind it"))
            return grad.reshape(*grad.shape[:2], *value.shape[2:])
        made = self.step.maps[reader]
        later = self.gradient(made.name)
        with torch.enable_grad():
            x = value.detach().expand(steps, *value.shape[1:]).clone().requires_grad_(True)
            others = [self.value(source).detach() for source in made.inputs]
            y = self.made(made, [x if source == name else y for source, y in zip(made.inputs, others, strict=True)])
            (back,) = torch.autograd.grad(y, x, later.reshape(y.shape).to(y.dtype))
        return back


def check_spikes(tensors: Tensors, obstacles: Obstacles) -> None:
    """Notes every neuron that sent something else than spikes."""
    for path, found in tensors.modules.items():
        if found.role.neuron is None or found.role.reason:
            continue
        sent = tensors.sent(path)
        if not torch.equal(sent, (sent != 0).to(sent)):
            wrong = (sent != 0) & (sent != 1)
            obstacles.add(ExportError(at(path, "spikes", "0 or 1", f"{float(sent[wrong][0]):g}")))


def check_reads(step: Step, replay: Replay, obstacles: Obstacles) -> None:
    """Notes every module that did not read what the graph says.

    Sums and averages may differ by rounding. Anything else must be equal; if it was flattened, in the order (C, H, W).
    """
    for path, source in step.sources.items():
        if source != INPUT:
            with obstacles.noted():
                _check_read(step, replay, path, source)


def _check_read(step: Step, replay: Replay, path: str, source: str) -> None:
    wanted = f"what {_described(step, source)} sent"
    try:
        read, sent = step.tensors.read(path).flatten(2), replay.value(source).flatten(2)
    except RuntimeError as error:  # shapes that do not go together: a part was taken
        got = " ".join(str(error).split())[:120]
        raise ExportError(at(path, "reads", wanted, f"shapes that differ: {got}")) from None
    if sent.shape[2] != read.shape[2] or sent.shape[0] > read.shape[0]:
        raise ExportError(at(path, "reads", f"{wanted}, {tuple(sent.shape)}", tuple(read.shape)))
    if (read.data_ptr() == sent.data_ptr() and read.shape == sent.shape) or torch.equal(read, sent.expand_as(read)):
        return
    slack = torch.zeros_like(read)
    if source in step.maps:
        eps = torch.finfo(step.modules[path].reads[0].value.dtype).eps
        slack = 16 * eps * replay.size(source).flatten(2).expand_as(read)
    wrong = (read - sent).abs() > slack
    if bool(wrong.any()):
        got = f"{int(wrong.sum())} of {wrong.numel()} other values: something unseen between them"
        raise ExportError(at(path, "reads", wanted, got))


def _described(step: Step, name: str) -> str:
    """`conv2 + conv1` of a sum; of any other map its name."""
    made = step.maps.get(name)
    if made is None or made.kind != "add" or "op" in made.entry:
        return name if made is None else f"layers, as {name},"
    return " + ".join(_described(step, each) for each in made.inputs)


def network_input(
    tensors: Tensors, sources: Mapping[str, str], leaves: Mapping[str, list[torch.Tensor]]
) -> torch.Tensor:
    """The network input (T or 1, N, ...) as its readers saw it. leaves: what a module reads through maps of it.

    Raises ExportError if they saw different ones, or if there is no reader.
    """
    seen = {path: tensors.read(path) for path, source in sources.items() if source == INPUT}
    for path, of in leaves.items():
        if path not in seen:
            seen[path] = _leaf_values(of, tensors, path)
    if not seen:
        raise ExportError(at("model", "network input", "a layer that reads nothing else", "none"))
    (first_path, first), *others = seen.items()
    for path, other in others:
        same = first.flatten(2).shape[1:] == other.flatten(2).shape[1:]
        full = max(first.shape[0], other.shape[0])
        if not same or not torch.equal(_steps(first, full).flatten(2), _steps(other, full).flatten(2)):
            wanted = f"the network input as {first_path!r} reads it"
            raise ExportError(at(path, "reads", wanted, "other values without gradient: detached, or a second input"))
    return first[:1] if bool((first == first[:1]).all()) else first


def _leaf_values(leaves: list[torch.Tensor], tensors: Tensors, path: str) -> torch.Tensor:
    unique = list({id(leaf): leaf.detach().cpu() for leaf in leaves}.values())
    found = stacked(unique, tensors.extent, None, (path, "the network input"))[:, : tensors.batch]
    return found if found.dtype == torch.float64 else found.float()


def _steps(tensor: torch.Tensor, timesteps: int) -> torch.Tensor:
    return tensor.expand(timesteps, *tensor.shape[1:])

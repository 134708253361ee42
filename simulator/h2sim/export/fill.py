"""Turns a recorded step into a trace's layers and arrays."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from h2sim.errors import ExportError, at
from h2sim.export import dynamics
from h2sim.export.live import gradient_at_each_timestep
from h2sim.export.notes import gradient_notes, reading_notes
from h2sim.export.obstacles import refusal
from h2sim.export.protocol import NeuronSpec
from h2sim.export.reading import Reading
from h2sim.export.record import LayerRecord, StepRecord, pack_bits
from h2sim.export.step import Replay, Step
from h2sim.export.structure import INPUT, Piece, chw
from h2sim.export.weights import Fold, fold_of, folded, gives, weight_gradient
from h2sim.io.kept import cached_property

_CLOSE = 1e-5
MOST_ROUTE = 255  # a route is a byte


@dataclass(frozen=True, kw_only=True)
class Filled:
    """What a trace holds of a step (record, layers, neuron), and what its maker should know (notes)."""

    record: StepRecord
    layers: list[dict[str, Any]]
    neuron: dict[str, Any]
    notes: tuple[str, ...]
    surrogates: dict[str, str]
    batch_norm: bool
    dtype: str


def fill(reading: Reading, least: float, keep_values: bool) -> Filled:
    """The layers and arrays of a step.

    least: the window threshold (capture.trace); keep_values: whether to keep values beside masks. Raises ExportError,
    which names the module, for what a trace cannot hold.
    """
    step = reading.step
    dtype = next(found for found in step.modules.values() if found.role.neuron).reads[0].value.dtype
    notes: list[str] = []
    if keep_values and torch.finfo(dtype).bits < 32:
        keep_values = False
        notes.append(f"values left out: the model computes in {dtype}, their check in float32")
    record, surrogates, layers = StepRecord(), {}, []
    _fill_input(reading, record)
    filler = _Filler(reading=reading, least=least, keep_values=keep_values, eps=torch.finfo(dtype).eps, notes=notes)
    for piece in reading.pieces:
        entry, record.layers[piece.name] = filler.layer(piece)
        layers.append(entry)
        if piece.neuron:
            surrogates[piece.name] = filler.spec(piece).surrogate
    shared = _share_neuron(layers)
    said = [*notes, *reading_notes(reading), *gradient_notes(step.modules, bool(step.penalised))]
    return Filled(
        record=record,
        layers=layers,
        neuron=shared,
        notes=tuple(dict.fromkeys(said)),
        surrogates=surrogates,
        batch_norm=bool(reading.live),
        dtype=str(dtype).removeprefix("torch."),
    )


def _share_neuron(layers: list[dict[str, Any]]) -> dict[str, Any]:
    """The first neuron's parameters as the network's; a layer keeps an entry of its own only where it differs."""
    first = next(layer["neuron"] for layer in layers if "neuron" in layer)
    for layer in layers:
        if layer.get("neuron") == first:
            del layer["neuron"]
    return {key: value for key, value in first.items() if value is not None and (key, value) != ("equation", "lif")}


def _fill_input(reading: Reading, record: StepRecord) -> None:
    step, given = reading.step, reading.step.inputs
    shape = next(piece.in_shape for piece in reading.pieces if INPUT in piece.reads)
    shape = chw(shape)
    whole = given.reshape(*given.shape[:2], *shape)
    if reading.input_kind == "analog":
        record.input_analog = whole.float().numpy()
    elif reading.input_kind == "counts":
        kind = np.uint8 if (reading.most or 0) < 256 else np.uint16
        record.input_counts = whole.expand(step.extent.timesteps, *whole.shape[1:]).numpy().astype(kind)
    else:
        record.input_spikes = pack_bits(given.expand(step.extent.timesteps, *given.shape[1:]).numpy() != 0)


@dataclass
class _Filler:
    """Fills one layer at a time and adds to `notes`. eps: rounding of the model's number format."""

    reading: Reading
    least: float
    keep_values: bool
    eps: float
    notes: list[str]
    windows: dynamics.Windows = field(init=False)

    def __post_init__(self) -> None:
        self.windows = dynamics.Windows(self.least)

    @property
    def replay(self) -> Replay:
        """The step's maps, computed again."""
        return self.reading.replay

    @property
    def step(self) -> Step:
        """The recorded step."""
        return self.reading.step

    def spec(self, piece: Piece) -> NeuronSpec:
        """The neuron of a spiking layer."""
        spec = self.step.modules[piece.neuron or ""].role.neuron
        assert spec is not None
        return spec

    def layer(self, piece: Piece) -> tuple[dict[str, Any], LayerRecord]:
        """A layer's entry (with its neuron, if it spikes) and its arrays."""
        entry, record = piece.entry(), LayerRecord(values=self.keep_values)
        if piece.entry_keys.get("mode") == "max":
            self._route(piece, record)
        if piece.is_map:
            self._map(piece, record)
            return entry, record
        fold = self._fold(piece)
        if piece.weights:
            module: Any = self._module(piece.weights)
            shifted = fold is None or bool(fold.shift.any())  # a norm's shift is a bias
            entry["bias"] = shifted or getattr(module, "bias", None) is not None
        if piece.neuron:
            entry["neuron"], value, grad = self._spiking(piece, record)
        else:
            value, grad = self._current(piece, fold)
        sent_on = self._norms(piece, record) if piece.norms else grad
        record.grad = pack_bits(sent_on.numpy() != 0)
        if not self.keep_values:
            return entry, record
        if fold is None:
            self._note_unfolded(piece)
        if fold is not None or not piece.behind:
            record.membrane, record.grad_membrane = self._stored(piece, value), self._stored(piece, grad)
        if piece.weights and fold is not None:
            self._weights(piece, record, fold, sent_on)
        return entry, record

    def _stored(self, piece: Piece, value: torch.Tensor) -> np.ndarray[Any, Any]:
        """Values (T or 1, N, ...) as a trace holds them, (T, N, C, H, W) or (T, N, F), float32."""
        shape = (math.prod(piece.out_shape),) if piece.kind == "fc" else piece.out_shape
        whole = value.expand(self.step.extent.timesteps, *value.shape[1:])
        return whole.reshape(*whole.shape[:2], *shape).float().numpy()

    def _module(self, path: str) -> Any:
        return self.step.modules[path].layer

    # maps

    def _map(self, piece: Piece, record: LayerRecord) -> None:
        """What does not follow from what a map reads: a mask, where a maximum of analog values routes, a norm."""
        if piece.kind == "gate":
            record.kept = self._kept(piece)
        elif piece.kind == "relu":
            record.window = self._packed(piece, self.replay.value(piece.map or "") > 0)
        elif piece.kind == "norm":
            self._norm_values(piece, record, piece.map or "")
        elif piece.norms:
            self._norms(piece, record)

    def _packed(self, piece: Piece, mask: torch.Tensor) -> np.ndarray[Any, Any]:
        return pack_bits(mask.expand(self.step.extent.timesteps, *mask.shape[1:]).numpy())

    def _kept(self, piece: Piece) -> np.ndarray[Any, Any]:
        made = self.step.maps[piece.map or ""]
        if made.kind == "gate":
            kept = self.replay.kept(made)
            if len(kept) > 1 and made.name in self.under_mean:
                wanted, rewrite = "one mask for all timesteps in front of a mean over time", "put it behind the mean"
                raise refusal(made.name, "gate", wanted, f"one for each of {len(kept)}", rewrite)
            return pack_bits(kept.numpy())
        return pack_bits(np.ones((1, self.step.batch, *piece.out_shape), bool))  # a factor

    @cached_property
    def under_mean(self) -> set[str]:
        """Maps between neurons and a mean over time: what they drop is the same at all timesteps of a sample."""
        maps = {piece.map: piece for piece in self.reading.pieces if piece.is_map and piece.map}
        waiting, found = [name for piece in self.reading.pieces if piece.mean for name in piece.reads], set()
        while waiting:
            name = waiting.pop()
            if name in maps and name not in found:
                found.add(name)
                waiting += maps[name].reads
        return found

    def _route(self, piece: Piece, record: LayerRecord) -> None:
        """Where a maximum of analog values routes; that of spikes and counts follows from them."""
        made = self.step.maps[piece.map or ""]
        if self._is_counted(made.inputs[0]):
            return
        route = self.replay.route(made)
        if int(route.max()) > MOST_ROUTE:
            wanted = f"at most {MOST_ROUTE + 1} elements for a maximum of values that are no spikes"
            raise ExportError(at(made.name, "window", wanted, int(route.max()) + 1))
        record.route = route.expand(self.step.extent.timesteps, *route.shape[1:]).to(torch.uint8).numpy()

    def _is_counted(self, name: str) -> bool:
        """Whether a map holds spikes or counts, by structure."""
        if name in self.step.maps:
            made = self.step.maps[name]
            return made.kind != "relu" and all(map(self._is_counted, made.inputs))
        if name == INPUT:
            return self.reading.input_kind != "analog"
        return self.step.modules[name].role.neuron is not None

    # norms

    def _norms(self, piece: Piece, record: LayerRecord) -> torch.Tensor:
        """dL/dx of what the first norm of the step reads, (T, N, ...); its values go into the record."""
        return self._norm_values(piece, record, piece.norms[0])

    def _norm_values(self, piece: Piece, record: LayerRecord, path: str) -> torch.Tensor:
        tensors, live = self.step.tensors, self.reading.live[path]
        grad = tensors.grad_read(path)
        if grad.shape[0] < self.step.extent.timesteps:
            if live.weight is None:
                wanted = "a call per timestep, or one for all of them"
                raise ExportError(at(path, "calls", wanted, "one on a current that stands still"))
            grad = gradient_at_each_timestep(live, tensors.read(path), self.replay.gradient(path))
        if self.keep_values:
            record.current = self._stored(piece, tensors.read(path))
            record.grad_current = self._stored(piece, grad)
            if live.weight is not None and live.bias is not None and len(piece.norms or (path,)) == 1:
                factor = math.prod(float(self.step.maps[name].factor) for name in piece.then)
                record.norm_weight = (live.weight * factor).numpy()
                record.norm_bias = (live.bias * factor).numpy()
        return grad

    # neurons

    def _spiking(self, piece: Piece, record: LayerRecord) -> tuple[dict[str, Any], torch.Tensor, torch.Tensor]:
        """The neuron's entry, m and dm; spikes and window go into the record."""
        spec, path, tensors = self.spec(piece), piece.neuron or "", self.step.tensors
        s, m = tensors.sent(path), self.step.membranes[path]
        window = self.windows.of(spec, m, path)
        dm, ds = tensors.grad_read(path), tensors.grad_sent(path)
        record.spikes, record.window = pack_bits(s.numpy() != 0), pack_bits(window.mask.numpy())
        self.notes += [note for note in spec.notes if note not in self.notes]
        self._note_window(piece, spec, window)
        lif = spec.equation == "lif" and window.exact
        known = lif and (not self.keep_values or self._explained(piece, spec, m, s, ds, dm, window.slope))
        scale = window.height if known else None
        entry = {
            "threshold": spec.threshold / spec.scale,
            "decay": spec.decay,
            "window": [_shortest(end) for end in window.interval],
            "surrogate_scale": scale,
            "reset": spec.reset,
            "detach_reset": spec.detach_reset,
            "equation": "lif" if lif else "other",
        }
        if spec.fires_at != "greater_equal":
            entry["fires_at"] = spec.fires_at
        return entry, m, dm

    def _note_window(self, piece: Piece, spec: NeuronSpec, window: dynamics.Window) -> None:
        if spec.equation == "other":
            self.notes.append(f"{piece.name}: another equation than the source's: masks only, its values not checked")
        if not window.exact:
            self.notes.append(f"{piece.name}: surrogate {spec.surrogate} has a window of several parts: not checked")
        ends = [abs(end) >= dynamics.WIDE for end in window.interval]
        if all(ends):
            hint = "give window_threshold to leave small derivatives out"
            self.notes.append(
                f"{piece.name}: surrogate {spec.surrogate} is nowhere 0: the window mask is all ones; {hint}"
            )
        if spec.scale != 1:
            self.notes.append(f"{piece.name}: membrane, threshold and window divided by the input gain {spec.scale:g}")

    def _explained(
        self,
        piece: Piece,
        spec: NeuronSpec,
        m: torch.Tensor,
        s: torch.Tensor,
        ds: torch.Tensor,
        dm: torch.Tensor,
        slope: torch.Tensor,
    ) -> bool:
        """Whether dm follows from the spikes' gradient, and that from the layers behind: then verify can check it."""
        path = piece.neuron or ""
        if not dynamics.follows_gradient(spec, m, s, ds, dm, slope):
            self.notes.append(f"{piece.name}: gradient not eq. 2.5 of its spikes' (is the membrane read?): not checked")
            return False
        if not self.step.readers(path):
            return True
        total = self.replay.gradient(path).reshape(ds.shape)
        if float((total - ds).abs().max()) <= _CLOSE * max(float(ds.abs().max()), 1e-30):
            return True
        self.notes.append(f"{piece.name}: its spikes have a gradient that no later layer sent: gradient not checked")
        return False

    # currents and weights

    def _parts(self, names: tuple[str, ...]) -> list[Any]:
        """Norms as modules, and factors."""
        maps, modules = self.step.maps, self.step.modules
        return [maps[name].factor if name in maps else modules[name].module for name in names]

    def _fold(self, piece: Piece) -> Fold | None:
        """All that belongs to the layer's weights; None if it is no fixed scale and shift."""
        fold = fold_of(self._parts(piece.folded + piece.behind))
        if fold and not fold.trivial:
            named = ", ".join(piece.folded + piece.behind)
            self.notes.append(f"{piece.name}: {named} folded into weight and bias")
        return fold

    def _note_unfolded(self, piece: Piece) -> None:
        norms = ", ".join(piece.folded + piece.behind)
        self.notes.append(f"{piece.name}: weight and bias left out: {norms} is no fixed scale and shift per channel")

    def _current(self, piece: Piece, fold: Fold | None) -> tuple[torch.Tensor, torch.Tensor]:
        """x and dL/dx, (T, N, ...), of a layer that does not spike. What is folded from behind a map is in x."""
        if piece.mean:
            return self._of_mean(piece)
        value, grad = self.replay.value(piece.last), self._grad_of(piece.last)
        behind = fold_of(self._parts(piece.behind))
        if fold is None or behind is None or behind.trivial:
            return value, grad
        scale, shift = (
            part.to(value.dtype).reshape(-1, *[1] * (value.dim() - 3)) for part in (behind.scale, behind.shift)
        )
        return value * scale + shift, grad / scale

    def _of_mean(self, piece: Piece) -> tuple[torch.Tensor, torch.Tensor]:
        """x, and dL/dx[t] of each timestep, of a product of a mean over time: each has 1/T of the gradient."""
        value, grad = (each(piece.weights or "") for each in (self.step.tensors.sent, self.step.tensors.grad_sent))
        steps = self.step.extent.timesteps
        return value, (grad / steps).expand(steps, *grad.shape[1:])

    def _grad_of(self, name: str) -> torch.Tensor:
        """dL/d(what a module or factor gives), (T, N, ...), also where one call served all timesteps."""
        if name in self.step.maps:
            return self.replay.gradient(name)
        grad = self.step.tensors.grad_sent(name)
        return grad if grad.shape[0] == self.step.extent.timesteps else self.replay.gradient(name)

    def _weights(self, piece: Piece, record: LayerRecord, fold: Fold, grad: torch.Tensor) -> None:
        step, path = self.step, piece.weights or ""
        module, read, sent = self._module(path), step.tensors.read(path), step.tensors.sent(path)
        if not module.weight.is_leaf and not gives(module, read, sent):
            got = "others from call to call (spectral_norm in training?): call eval() on that layer"
            raise ExportError(at(path, "weights", "the same at every timestep", got))
        if not module.weight.is_leaf:
            self.notes.append(
                f"{piece.name}: its weight is made of other parameters: the arithmetic of that is left out"
            )
        weight, bias = folded(module, fold)
        own = getattr(module.weight, "grad", None) if module.weight.is_leaf else None
        whole = step.batch == step.extent.samples and fold.trivial and not self._is_shared(module)
        changed = id(module.weight) in step.penalised or getattr(module.weight, "_backward_hooks", None)
        if own is not None and whole and not changed:
            dw = own.detach().cpu()
        else:
            dw = weight_gradient(module, read, grad.reshape(*grad.shape[:2], *sent.shape[2:]))
            self.notes.append(f"{piece.name}: weight_grad computed from what the layer read and its gradient")
        layout = (*weight.shape, 1, 1) if piece.kind == "encode" and weight.dim() == 2 else tuple(weight.shape)
        record.weight = weight.reshape(layout).numpy()
        record.bias = None if bias is None else bias.numpy()
        record.weight_grad = dw.float().reshape(layout).numpy()

    def _is_shared(self, module: Any) -> bool:
        weights = Counter(id(getattr(found.layer, "weight", None)) for found in self.step.modules.values())
        return weights[id(module.weight)] > 1


def _shortest(value: float) -> float:
    """The shortest decimal that is the same float32 number."""
    return float(str(np.float32(value)))

"""Turns a recorded step into a trace's layers and arrays."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from h2sim.errors import ExportError, at
from h2sim.export import dynamics
from h2sim.export.notes import counts_warning, live_norms, norm_warning, step_notes
from h2sim.export.protocol import NeuronSpec
from h2sim.export.record import LayerRecord, StepRecord, pack_bits
from h2sim.export.step import Step, check_reads, network_input
from h2sim.export.structure import INPUT, Piece, assemble
from h2sim.export.weights import Fold, fold_of, folded, gives, weight_gradient

_CLOSE = 1e-5


@dataclass(frozen=True, kw_only=True)
class Filled:
    """What a trace holds of a step (record, layers, neuron), and what its maker should know (notes, and warnings)."""

    record: StepRecord
    layers: list[dict[str, Any]]
    neuron: dict[str, Any]
    notes: tuple[str, ...]
    surrogates: dict[str, str]
    warnings: tuple[str, ...]
    batch_norm: bool
    dtype: str


def fill(step: Step, least: float, keep_values: bool) -> Filled:
    """The layers and arrays of a step.

    least: the window threshold (capture.trace); keep_values: whether to keep values beside masks. Raises ExportError,
    which names the module, for what a trace cannot hold.
    """
    check_reads(step)
    given = network_input(step)
    analog = bool(((given != 0) & (given != 1)).any())
    structure = assemble({path: step.node(path) for path in step.reads}, analog)
    dtype = next(found for found in step.modules.values() if found.role.neuron).reads[0].value.dtype
    notes = [f"{path}: average behind the last layer: read-out, not a layer" for path in structure.ignored]
    if keep_values and torch.finfo(dtype).bits < 32:
        keep_values = False
        notes.append(f"values left out: the model computes in {dtype}, their check in float32")
    record, surrogates, layers = StepRecord(), {}, []
    _fill_input(step, record, given, analog, [piece for piece in structure.pieces if INPUT in piece.reads])
    filler = _Filler(
        step=step,
        pieces=structure.pieces,
        least=least,
        keep_values=keep_values,
        eps=torch.finfo(dtype).eps,
        notes=notes,
    )
    for piece in structure.pieces:
        entry, record.layers[piece.name] = filler.layer(piece)
        layers.append(entry)
        if piece.neuron:
            surrogates[piece.name] = filler.spec(piece).surrogate
    live = live_norms(step)
    warnings = [said for said in (norm_warning(step, live), counts_warning(given) if analog else None) if said]
    shared = _share_neuron(layers)
    unique = tuple(dict.fromkeys([*notes, *step_notes(step), *warnings]))
    return Filled(
        record=record,
        layers=layers,
        neuron=shared,
        notes=unique,
        surrogates=surrogates,
        warnings=tuple(warnings),
        batch_norm=bool(live),
        dtype=str(dtype).removeprefix("torch."),
    )


def _share_neuron(layers: list[dict[str, Any]]) -> dict[str, Any]:
    """The first neuron's parameters as the network's; a layer keeps an entry of its own only where it differs."""
    first = next(layer["neuron"] for layer in layers if "neuron" in layer)
    for layer in layers:
        if layer.get("neuron") == first:
            del layer["neuron"]
    return {key: value for key, value in first.items() if value is not None and (key, value) != ("equation", "lif")}


def _fill_input(step: Step, record: StepRecord, given: torch.Tensor, analog: bool, readers: list[Piece]) -> None:
    if analog:
        shape = readers[0].in_shape
        record.input_analog = given.reshape(*given.shape[:2], *shape).float().numpy()
    else:
        record.input_spikes = pack_bits(given.expand(step.extent.timesteps, *given.shape[1:]).numpy() != 0)


@dataclass
class _Filler:
    """Fills one layer at a time and adds to `notes`. eps: rounding of the model's number format."""

    step: Step
    pieces: tuple[Piece, ...]
    least: float
    keep_values: bool
    eps: float
    notes: list[str]

    def spec(self, piece: Piece) -> NeuronSpec:
        """The neuron of a spiking layer."""
        spec = self.step.modules[piece.neuron or ""].role.neuron
        assert spec is not None
        return spec

    def layer(self, piece: Piece) -> tuple[dict[str, Any], LayerRecord]:
        """A layer's entry (with its neuron, if it spikes) and its arrays."""
        entry, record = piece.entry(), LayerRecord(values=self.keep_values)
        shape = (piece.out_shape[0],) if piece.kind == "fc" else piece.out_shape
        full = (self.step.extent.timesteps, self.step.batch, *shape)
        fold = self._fold(piece)
        if piece.weights:
            module: Any = self.step.modules[piece.weights].module
            shifted = piece.norms or self._pool_norms(piece)  # a batch norm's shift is a bias
            entry["bias"] = bool(shifted) or getattr(module, "bias", None) is not None
        if piece.neuron:
            entry["neuron"], value, grad = self._spiking(piece, record, full)
        else:
            value, grad = self._current(piece, fold)
        record.grad = pack_bits(grad.numpy() != 0)
        if not self.keep_values:
            return entry, record
        if fold is None:
            self._note_norm(piece)
        if fold is not None or not self._pool_norms(piece):
            record.membrane = value.expand(full[0], *value.shape[1:]).reshape(full).float().numpy()
            record.grad_membrane = grad.reshape(full).float().numpy()
        if piece.weights and fold is not None:
            self._weights(piece, record, fold, grad)
        return entry, record

    # neurons

    def _spiking(
        self, piece: Piece, record: LayerRecord, full: tuple[int, ...]
    ) -> tuple[dict[str, Any], torch.Tensor, torch.Tensor]:
        """The neuron's entry, m and dm; spikes and window go into the record."""
        step, spec, path = self.step, self.spec(piece), piece.neuron or ""
        x, s = step.read(path), step.sent(path)
        m = dynamics.membrane_of(spec, x, s, self.eps, path)
        window = dynamics.window_of(spec, m, self.least, path)
        dm, ds = step.grad_read(path), step.grad_sent(path)
        record.spikes, record.window = pack_bits(s.numpy() != 0), pack_bits(window.mask.numpy())
        self.notes += [note for note in spec.notes if note not in self.notes]
        self._note_window(piece, spec, window)
        lif = spec.equation == "lif" and window.exact
        scale = window.height if lif and self._explained(piece, spec, m, s, ds, dm) else None
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
        self, piece: Piece, spec: NeuronSpec, m: torch.Tensor, s: torch.Tensor, ds: torch.Tensor, dm: torch.Tensor
    ) -> bool:
        """Whether dm follows from the spikes' gradient, and that from the layers behind: then verify can check it."""
        path = piece.neuron or ""
        if not dynamics.follows_gradient(spec, m, s, ds, dm, path):
            self.notes.append(f"{piece.name}: gradient not eq. 2.5 of its spikes' (is the membrane read?): not checked")
            return False
        readers = self.step.readers(path)
        if not readers:
            return True
        total = torch.stack([self.step.grad_read(reader).flatten(2) for reader in readers]).sum(0)
        if float((total - ds.flatten(2)).abs().max()) <= _CLOSE * max(float(ds.abs().max()), 1e-30):
            return True
        self.notes.append(f"{piece.name}: its spikes have a gradient that no later layer sent: gradient not checked")
        return False

    # currents and weights

    def _pool_norms(self, piece: Piece) -> tuple[str, ...]:
        """Batch norms behind the pool that averages the currents of this layer."""
        last = piece.norms[-1] if piece.norms else piece.weights
        return tuple(norm for other in self.pieces if last in other.reads and other.pool for norm in other.norms)

    def _fold(self, piece: Piece) -> Fold | None:
        """All batch norms that belong to the layer's weights; None if they are no fixed scale and shift."""
        behind = self._pool_norms(piece)
        if behind and not self._pool_is_plain(piece):
            return None
        fold = fold_of([self.step.modules[path].module for path in piece.norms + behind])
        if fold and not fold.trivial:
            self.notes.append(f"{piece.name}: {', '.join(piece.norms + behind)} folded into weight and bias")
        return fold

    def _pool_is_plain(self, piece: Piece) -> bool:
        """Whether no pool behind the layer has padding, so that the average of a constant is that constant."""
        last = piece.norms[-1] if piece.norms else piece.weights
        return all((other.geometry or {})["padding"] == [0, 0] for other in self.pieces if last in other.reads)

    def _current(self, piece: Piece, fold: Fold | None) -> tuple[torch.Tensor, torch.Tensor]:
        """x and dL/dx, (T, N, ...), of a layer that does not spike. A batch norm behind its pool is folded into x."""
        path = piece.norms[-1] if piece.norms else piece.weights or ""
        value, grad = self.step.sent(path), self._grad_of_current(path)
        behind = fold_of([self.step.modules[norm].module for norm in self._pool_norms(piece)])
        if fold is None or behind is None or behind.trivial:
            return value, grad
        scale, shift = (part.to(value.dtype).reshape(-1, 1, 1) for part in (behind.scale, behind.shift))
        return value * scale + shift, grad / scale

    def _grad_of_current(self, path: str) -> torch.Tensor:
        """dL/d(what a module sent), (T, N, ...), also where one call served all timesteps."""
        grad = self.step.grad_sent(path)
        if grad.shape[0] == self.step.extent.timesteps:
            return grad
        return torch.stack([self._grad_to_reader(reader, path) for reader in self.step.readers(path)]).sum(0)

    def _grad_to_reader(self, reader: str, path: str) -> torch.Tensor:
        grad = self.step.grad_read(reader)
        if grad.shape[0] == self.step.extent.timesteps:
            return grad.reshape(*grad.shape[:2], *self.step.sent(path).shape[2:])
        if self.step.modules[reader].role.name != "pool":
            wanted = "a call per timestep, or a neuron or a pool behind a static current"
            raise ExportError(at(path, "calls", wanted, f"{reader!r} behind it"))
        later = self._grad_of_current(reader)
        with torch.enable_grad():
            x = self.step.read(reader).expand(later.shape[0], *grad.shape[1:]).flatten(0, 1).requires_grad_(True)
            (back,) = torch.autograd.grad(_average(x, self.step.node(reader).geometry or {}), x, later.flatten(0, 1))
        return back.reshape(*later.shape[:2], *back.shape[1:])

    def _note_norm(self, piece: Piece) -> None:
        norms = ", ".join(piece.norms + self._pool_norms(piece))
        self.notes.append(f"{piece.name}: weight and bias left out: {norms} is no fixed scale and shift per channel")

    def _weights(self, piece: Piece, record: LayerRecord, fold: Fold, grad: torch.Tensor) -> None:
        step, path = self.step, piece.weights or ""
        module: Any = step.modules[path].module
        if not module.weight.is_leaf and not gives(module, step.read(path), step.sent(path)):
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
            dw = weight_gradient(module, step.read(path), grad.reshape(*grad.shape[:2], *step.sent(path).shape[2:]))
            self.notes.append(f"{piece.name}: weight_grad computed from what the layer read and its gradient")
        layout = (*weight.shape, 1, 1) if piece.kind == "encode" and weight.dim() == 2 else tuple(weight.shape)
        record.weight = weight.reshape(layout).numpy()
        record.bias = None if bias is None else bias.numpy()
        record.weight_grad = dw.float().reshape(layout).numpy()

    def _is_shared(self, module: Any) -> bool:
        weights = Counter(id(getattr(found.module, "weight", None)) for found in self.step.modules.values())
        return weights[id(module.weight)] > 1


def _shortest(value: float) -> float:
    """The shortest decimal that is the same float32 number."""
    return float(str(np.float32(value)))


def _average(x: torch.Tensor, geometry: Any) -> torch.Tensor:
    return functional.avg_pool2d(x, geometry["kernel"], geometry["stride"], geometry["padding"])

"""Sees every product, convolution and norm that a model computes outside of the modules that are recorded.

Autograd's graph shows only what gets a gradient. Weights that are frozen or a buffer are work of the machine all the
same, and so is a product of two activations, or of weights inside a neuron or a norm, which have no row for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from h2sim.export.accounts import REMEDY, unaccounted
from h2sim.export.graph import Leaves, tensors_in
from h2sim.export.hooks import Recorder
from h2sim.export.obstacles import refusal

_PRODUCTS = frozenset((
    "mm", "addmm", "bmm", "addbmm", "baddbmm", "mv", "addmv", "dot", "vdot", "linear", "_trilinear", "convolution",
    "_convolution", "mkldnn_convolution", "mkldnn_linear", "embedding", "_embedding_bag", "_cdist_forward",
    "_euclidean_dist", "addr", "_scaled_dot_product_attention_math", "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_efficient_attention", "mkldnn_rnn_layer",
    "_cudnn_rnn", "_thnn_fused_lstm_cell", "_thnn_fused_gru_cell", "_sparse_mm", "_sparse_addmm", "_addmm_activation",
))  # fmt: skip
_NORMS = frozenset((
    "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm",
    "_batch_norm_with_update", "native_layer_norm", "native_group_norm", "_fused_rms_norm",
))  # fmt: skip
_ATTENTION = frozenset(("bmm", "baddbmm", *(name for name in _PRODUCTS if name.startswith("_scaled_dot"))))
_ELEMENTWISE = frozenset(("mul", "mul_", "div", "div_", "addcmul", "addcmul_", "lerp", "_prelu_kernel"))
_TABLES = frozenset(("index", "index_select", "gather", "take", "where"))  # weights that activations choose from


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches operations while it is entered. recorder: knows the modules that run, whose work a layer shows.

    It also tells the recorder before memory is written into. in_loss: set it while the loss is computed, whose products
    are no work of the network unless the model holds them.
    """

    def __init__(self, model: nn.Module, recorder: Recorder) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.in_loss = False
        self._recorder, self._running = recorder, recorder.running
        self._known: dict[Any, tuple[str, tuple[int, ...]]] = {}  # operations: names, arguments that they write into
        self._names: dict[int, str] = {}
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.numel() > 1:
                self._names.setdefault(_storage(tensor), name)
        self._named: dict[str, str] = {}
        self._operations: set[str] = set()
        self._unnamed: list[str] = []
        self._inside: dict[str, str] = {}
        self._followers: dict[int, torch.Tensor] = {}  # computed from layers, with or without a gradient
        self._copies: list[torch.Tensor] = []  # kept, so that no storage is used twice
        self._scaled: dict[tuple[int, ...], None] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if self._recorder.paused:
            return func(*args, **(kwargs or {}))
        if func not in self._known:
            self._known[func] = func.overloadpacket.__name__, _written(func)
        name, written = self._known[func]
        if written:
            given = [*(args[n] for n in written if n < len(args)), (kwargs or {}).get("out")]
            self._recorder.before_write([each for each in given if isinstance(each, torch.Tensor)])
        made = func(*args, **(kwargs or {}))
        if self._running:
            if name in _PRODUCTS:
                self._note_inside(name)
            return made
        tensors = list(tensors_in([args, list((kwargs or {}).values())]))
        if name in _PRODUCTS or name in _NORMS:
            self._note(name, tensors)
        elif name in _ELEMENTWISE:
            self._note_elementwise(name, tensors, made)
        elif name in _TABLES and any(map(self._follows, tensors)):
            self._note_held(name, self._held([tensor for tensor in tensors if tensor.is_floating_point()]))
        if not name.startswith("new_") and not name.endswith("_like"):
            self._hand_on(tensors, made)
        return made

    def notes(self, gates: set[tuple[int, ...]]) -> tuple[str, ...]:
        """A sentence for each shape of tensor that scaled activations and that nothing holds.

        gates: shapes of the masks that layers have.
        """
        return tuple(
            f"values behind the layers multiplied by a tensor of shape {shape}: read-out, not a layer"
            for shape in self._scaled
            if not any(_spreads(shape, gate) for gate in gates)
        )

    @property
    def named(self) -> set[str]:
        """The operations that used what the model holds, as autograd names them but for case."""
        return set(self._operations)

    def check_named(self, leaves: Leaves) -> None:
        """Raises ExportError for products with tensors that the model holds, and names them."""
        if self._named:
            got = next(iter(self._named.values()))
            raise unaccounted([name for name, other in self._named.items() if other == got], leaves, got)

    def check_unnamed(self) -> None:
        """Raises ExportError for products of activations with each other, with what no module holds, or in a neuron."""
        for path, name in self._inside.items():
            got = f"the operation {name} inside {path!r}: {REMEDY}"
            raise refusal(path, "products", "none in a neuron or a norm", got)
        if self._unnamed:
            name = self._unnamed[0]
            got = f"the operation {name} outside of every one: {REMEDY}"
            rewrite = "attention between spikes is planned and not yet there" if name in _ATTENTION else ""
            raise refusal("model", "products and norms", "layers, which are modules", got, rewrite)

    def _follows(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor is computed from layers, or from parameters, even if it is detached."""
        key = _storage(tensor)
        return key not in self._names and (tensor.requires_grad or key in self._followers)

    def _hand_on(self, tensors: list[torch.Tensor], made: Any) -> None:
        """What is made of followers follows; what is made of nothing but tensors that the model holds is held."""
        held = self._held(tensors)
        follows = any(map(self._follows, tensors))
        for tensor in tensors_in(made):
            key = _storage(tensor)
            if not key or key in self._names:
                continue
            if follows:
                self._followers[key] = tensor
            elif held and len(held) == len(tensors) and tensor.numel() > 1:
                self._names[key] = held[0]
                self._copies.append(tensor)

    def _note_inside(self, name: str) -> None:
        found = self._running[-1]
        if found.role.name in ("neuron", "norm", "map"):
            self._inside.setdefault(found.path, name)

    def _note(self, name: str, tensors: list[torch.Tensor]) -> None:
        held = self._held(tensors)
        follows = any(map(self._follows, tensors))
        if name in _PRODUCTS or follows:
            self._note_held(name, held if len(held) < len(tensors) else [])
        if follows and not held and not self.in_loss:
            self._unnamed.append(name)

    def _note_elementwise(self, name: str, tensors: list[torch.Tensor], made: torch.Tensor) -> None:
        followers = [tensor for tensor in tensors if self._follows(tensor)]
        held, others = self._held(tensors), [tensor for tensor in tensors if not tensor.requires_grad]
        if not followers:
            return
        self._note_held(name, held)
        for other in (tensor for tensor in others if tensor.numel() > 1 and not held and not self.in_loss):
            if made.numel() > max(tensor.numel() for tensor in followers):
                self._unnamed.append(name)  # a product written as an outer product and a sum
            else:
                self._scaled[tuple(other.shape)] = None

    def _held(self, tensors: list[torch.Tensor]) -> list[str]:
        return [self._names[key] for key in map(_storage, tensors) if key in self._names]

    def _note_held(self, name: str, held: list[str]) -> None:
        for parameter in held:
            self._operations.add(name.removesuffix("_").replace("_", ""))
            self._named.setdefault(parameter, f"the operation {name} outside of every one: {REMEDY}")


def _spreads(shape: tuple[int, ...], gate: tuple[int, ...]) -> bool:
    """Whether a tensor of this shape, repeated along axes, is a mask of a gate's shape."""
    return len(shape) <= len(gate) and all(n in (1, of) for n, of in zip(shape[::-1], gate[::-1], strict=False))


def _storage(tensor: torch.Tensor) -> int:
    """What tensors and their views share; 0 for a tensor that holds nothing."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return 0


def _written(func: Any) -> tuple[int, ...]:
    """The positional arguments that an operation writes into, by number."""
    schema = func._schema
    if not schema.is_mutable:
        return ()
    return tuple(n for n, each in enumerate(schema.arguments) if each.alias_info and each.alias_info.is_write)

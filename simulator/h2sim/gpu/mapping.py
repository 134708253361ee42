"""Maps the kernels of a profile to layers and phases. The times of all rows add up to the time of all kernels.

A kernel belongs to the layer that the first of these names:

1. the user's rules, in order;
2. the events around the call that launched it, from the inside outwards. A range may be named like a layer. An
   operation of the backward pass has the sequence number (autograd's) of the operation of the forward pass that made
   it; the range around that operation names the layer;
3. what PyTorch itself names: optimizer, data loader, accumulation of gradients;
4. else it is `unmapped`.

A layer's backward pass is divided into weight_update (the weights' gradient) and backward (the input's gradient):

* Convolution: by the kernel's name (wgrad, dgrad, ...). A kernel whose name says nothing prepares the next kernel of
  the same operation and goes with it; the last ones go with the kernel before them.
* Matrix product (fc): PyTorch computes the input's gradient first and the weights' gradient second. What lies in
  neither product sums up the bias's gradient.
* Where nothing tells them apart: if the layer reads the network's input, which needs no gradient, all is weight_update;
  else one half goes to each, for both take the same number of multiply-accumulates [A].
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from h2sim.gpu import rules as names
from h2sim.gpu.clock import Label
from h2sim.gpu.profile import Profile, Work
from h2sim.gpu.rules import Rule
from h2sim.gpu.trace import RowPhase
from h2sim.io.kept import cached_property

UNMAPPED: Label = ("unmapped", "other")


@dataclass
class Mapped:
    """The result of a mapping.

    ns, kernels: time and number of kernels by (layer, phase). unmapped_ns: time of unmapped kernels by name. halved_ns:
    time that was divided into halves because nothing told the two gradients apart.
    """

    ns: Counter[Label] = field(default_factory=Counter)
    kernels: Counter[Label] = field(default_factory=Counter)
    unmapped_ns: Counter[str] = field(default_factory=Counter)
    halved_ns: int = 0

    def add(self, label: Label, work: Work) -> None:
        """Counts a kernel under one (layer, phase)."""
        self.ns[label] += work.ns
        self.kernels[label] += 1
        if label == UNMAPPED:
            self.unmapped_ns[work.name] += work.ns

    def halve(self, layer: str, work: Work) -> None:
        """Counts half of a kernel under each gradient of the layer. An odd nanosecond goes to the input's."""
        half = work.ns // 2
        self.ns[layer, "weight_update"] += half
        self.ns[layer, "backward"] += work.ns - half
        self.kernels[layer, "backward"] += 1
        self.halved_ns += work.ns


@dataclass(frozen=True)
class Mapper:
    """Maps the kernels of one profile. inputs: the layers of the network, with the names of what each reads."""

    profile: Profile
    inputs: Mapping[str, tuple[str, ...]]
    rules: tuple[Rule, ...] = ()

    def map(self, works: list[tuple[Work, int]]) -> Mapped:
        """Maps each (kernel, event that launched it) once."""
        mapped, groups = Mapped(), defaultdict[tuple[str, int], list[tuple[Work, int]]](list)
        for work, index in works:
            layer, phase, node = self._place(work, index)
            if phase is None and node is not None:
                groups[layer, node].append((work, index))
            else:
                mapped.add((layer, phase or "forward"), work)
        for (layer, node), members in groups.items():
            self._divide(mapped, layer, node, members)
        return mapped

    def _place(self, work: Work, index: int) -> tuple[str, RowPhase | None, int | None]:
        """(layer, phase, operation that computes both gradients). The phase is None where the operation's kernels have
        to be looked at together.

        Kernels of one name that were launched by calls of one name in one operation are placed alike.
        """
        event = self.profile.events[index] if index >= 0 else None
        if event is not None and event.kind != "launch":
            return self._placed(work, index)
        key = (work.name, event.name if event else "", self.profile.parents[index] if event else -1)
        if key not in self._places:
            self._places[key] = self._placed(work, index)
        return self._places[key]

    @cached_property
    def _places(self) -> dict[tuple[str, str, int], tuple[str, RowPhase | None, int | None]]:
        return {}

    def _placed(self, work: Work, index: int) -> tuple[str, RowPhase | None, int | None]:
        layer, phase = self._label(work, index)
        node = self._divided(index)
        if phase is None and node is None:
            phase = "backward" if self._is_backward(index) else "forward"
        return layer, phase, node

    def _label(self, work: Work, index: int) -> tuple[str, RowPhase | None]:
        """(layer, phase) of a kernel. The phase is None where nothing names it and it has to be derived."""
        around = [self.profile.events[i].name for i in self.profile.chain(index)]
        for rule in self.rules:
            if rule.holds(work.name, around):
                return rule.layer, rule.phase or self._named(work, index)
        for i in self.profile.chain(index):
            found = self._says(i)
            if found is not None:
                layer, phase = found
                return layer, phase or self._named(work, index)
        own = next((rule for rule in names.OWN_RULES if rule.holds(work.name, around)), None)
        return (own.layer, own.phase) if own else UNMAPPED

    def _says(self, index: int) -> tuple[str, RowPhase | None] | None:
        """The (layer, phase) that one event names, itself or through the operation of the forward pass that made it."""
        event = self.profile.events[index]
        if event.kind == "range":
            return names.read_label(event.name, self.inputs)
        if event.kind == "op" and event.sequence is not None and names.BACKWARD.search(event.name):
            for i in self.profile.chain(self._made_by.get(event.sequence, -1)):
                made = self.profile.events[i]
                label = names.read_label(made.name, self.inputs) if made.kind == "range" else None
                if label is not None:
                    layer, phase = label
                    return (layer, "other") if phase == "other" else (layer, None)
        return None

    @cached_property
    def _made_by(self) -> dict[int, int]:
        """By sequence number, the index of the operation of the forward pass that has it.

        Of several the last to begin counts.
        """
        found: dict[int, int] = {}
        for index, event in enumerate(self.profile.events):
            if event.sequence is None or event.kind != "op" or names.BACKWARD.search(event.name):
                continue
            before = found.get(event.sequence)
            if before is None or event.start_ns >= self.profile.events[before].start_ns:
                found[event.sequence] = index
        return found

    def _is_backward(self, index: int) -> bool:
        events = (self.profile.events[i] for i in self.profile.chain(index))
        return any(event.kind == "op" and names.BACKWARD.search(event.name) for event in events)

    def _named(self, work: Work, index: int) -> RowPhase | None:
        """The gradient that a kernel of the backward pass computes, by its name; None if the name does not say it."""
        return names.gradient_of(work.name) if self._is_backward(index) and self._divided(index) is None else None

    def _divided(self, index: int) -> int | None:
        """Index of the outermost operation around an event that computes both gradients of a layer; None if there is
        none."""
        found = None
        for i in self.profile.chain(index):
            event = self.profile.events[i]
            both = names.is_conv_backward(event.name) or names.FC_BACKWARD.search(event.name)
            if event.kind == "op" and both:
                found = i
        return found

    def _divide(self, mapped: Mapped, layer: str, node: int, members: list[tuple[Work, int]]) -> None:
        conv = names.is_conv_backward(self.profile.events[node].name)
        said = self._conv_phases(members) if conv else self._product_phases(members, self._first(layer))
        for (work, _), phase in zip(members, said, strict=True):
            if phase is not None:
                mapped.add((layer, phase), work)
            elif self._first(layer):
                mapped.add((layer, "weight_update"), work)
            else:
                mapped.halve(layer, work)

    def _first(self, layer: str) -> bool:
        return self.inputs[layer] == ("input",)

    @staticmethod
    def _conv_phases(members: list[tuple[Work, int]]) -> list[RowPhase | None]:
        """The phase of each kernel: by its name; else that of the next kernel with one; else that of the last kernel
        with one."""
        said: list[RowPhase | None] = [names.gradient_of(work.name) for work, _ in members]
        for i in range(len(said) - 2, -1, -1):
            said[i] = said[i] or said[i + 1]
        for i in range(1, len(said)):
            said[i] = said[i] or said[i - 1]
        return said

    def _product_phases(self, members: list[tuple[Work, int]], first: bool) -> list[RowPhase | None]:
        """The phase of each kernel: backward in the first of two products, else weight_update; None unless there are
        two."""
        places = [self._product(index) for _, index in members]
        order = sorted({place for place in places if place is not None}, key=self._start)
        if len(order) != 2:
            return [None] * len(members)
        return ["backward" if place == order[0] else "weight_update" for place in places]

    def _start(self, index: int) -> int:
        return self.profile.events[index].start_ns

    def _product(self, index: int) -> int | None:
        """Index of the outermost matrix product around an event, by PyTorch's name for it; None if there is none."""
        found = None
        for i in self.profile.chain(index):
            if names.PRODUCT.fullmatch(self.profile.events[i].name):
                found = i
        return found

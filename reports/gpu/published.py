"""What figures 4.2 and 4.6 to 4.9 of the source print, and the same from the points of record.json."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from measure import BATCHES, CIFAR10, STEPS, Record
from step import Point


@dataclass(frozen=True)
class View:
    """The points of one device."""

    record: Record
    device: str

    @property
    def batch(self) -> int:
        """Samples of a step where a figure names none."""
        return BATCHES[self.device]

    def get(self, network: str, norm: bool, steps: int, way: str, batch: int = 0, **more: Any) -> dict[str, Any]:
        """What a point was measured to be; nothing where it was not."""
        of = {"network": network, "batch_norm": norm, "timesteps": steps, "way": way, "batch": batch or self.batch}
        return self.record.get(Point(device=self.device, **of, **more), {})

    def over(self, field: str, one: dict[str, Any], other: dict[str, Any]) -> float | None:
        """The quotient of a field of two points; None where one lacks it."""
        return one[field] / other[field] if field in one and field in other else None


@dataclass(frozen=True)
class Claim:
    """A published number. value: the same of a device's points, in words; empty where it is not measured.

    fields: what of a point it needs: a peak is measured anywhere, a time on a GPU alone. more: of measure.py's command.
    """

    figure: str
    what: str
    published: str
    value: Callable[[View], str]
    more: str = ""
    anywhere: bool = False

    def command(self, device: str) -> str:
        of = " --device cuda" if device == "cuda" else ""
        return f"`python reports/gpu/measure.py{of} --figure {self.figure[:3]}{self.more}`"


def between(values: list[float | None], form: str = "{:.2f}x") -> str:
    """'1.2x to 1.3x' of those that there are."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    low, high = form.format(min(known)), form.format(max(known))
    return low if low == high else f"{low} to {high}"


def conv_only(view: View, field: str, norm: bool) -> str:
    """Figure 4.2: vanilla over operations alone: medium at T 10 and the source's batch; all at the device's batch."""

    def each(network: str, steps: int, batch: int) -> float | None:
        return view.over(field, view.get(network, norm, steps, "vanilla", batch),
                         view.get(network, False, steps, "conv", batch))  # fmt: skip

    every = between([each(network, steps, view.batch) for network in CIFAR10 for steps in STEPS])
    source = between([each("medium", 10, 64)])
    return "; ".join(text for text in (source, every and f"{every} (all)") if text)


def best_share(view: View, norm: bool) -> str:
    """Figure 4.6: the least share of vanilla's peak."""
    found = [share(view, network, norm, steps) for network in CIFAR10 for steps in STEPS]
    found.append(share(view, "medium", norm, 10, batch=64))
    known = [value for value in found if value is not None]
    return f"{min(known):.2f}x" if known else ""


def share(view: View, network: str, norm: bool, steps: int, way: str = "fused-sliced", batch: int = 0) -> float | None:
    """A way's peak over vanilla's."""
    vanilla = view.get(network, norm, steps, "vanilla", batch)
    return view.over("peak_bytes", view.get(network, norm, steps, way, batch), vanilla)


def best_speedup(view: View, norm: bool) -> str:
    found = []
    for network in CIFAR10:
        for steps in STEPS:
            ours = [view.get(network, norm, steps, way) for way in ("fused", "fused-sliced")]
            found += [view.over("seconds", view.get(network, norm, steps, "vanilla"), each) for each in ours]
    known = [value for value in found if value is not None]
    return f"{max(known):.2f}x" if known else ""


def kept_share(view: View) -> str:
    """Figure 4.7a: the share of maps that autograd keeps in all memory of the step, vanilla's and ours."""
    told = []
    for way in ("vanilla", "fused-sliced"):
        maps = parts(view, way)
        if maps is None:
            return ""
        told.append(f"{maps['feature maps'] / sum(maps.values()):.0%}")
    return " and ".join(told)


def parts(view: View, way: str) -> dict[str, float] | None:
    """Memory of a step of the medium network with batch norm at T 10 and batch 64, in MB; None if not measured."""
    point = view.get("medium", True, 10, way, 64)
    if "kept_bytes" not in point:
        return None
    weights = 2 * point["parameter_bytes"]
    above = point["peak_bytes"] - (weights if view.device == "cuda" else 0)  # on the CPU they are there before
    kept = point["kept_bytes"]
    found = {"weights and gradients": weights, "feature maps": kept, "the largest layer's work": above - kept}
    return {name: size / 1e6 for name, size in found.items()}


def distributed(view: View, field: str, network: str) -> str:
    """Figure 4.9, on 4 GPUs: ours over vanilla's peak, or vanilla's time over ours."""
    vanilla, ours = (view.get(network, True, 10, way, 32, processes=4) for way in ("vanilla", "fused-sliced"))
    found = view.over(field, ours, vanilla) if field == "peak_bytes" else view.over(field, vanilla, ours)
    return between([found])


def scripted(view: View) -> str:
    """Figure 4.8: the forward pass by TorchScript over ours, of small, medium and large."""
    found = []
    for network in CIFAR10:
        script, ours = (view.get(network, True, 10, way, forward=True) for way in ("torchscript", "fused"))
        found.append(view.over("seconds", script, ours))
    return "" if None in found else ", ".join(f"{value:.2f}x" for value in found)


CLAIMS = (
    Claim("4.2a", "peak of LIF over operations alone", "1.69x to 1.82x", lambda v: conv_only(v, "peak_bytes", False),
          anywhere=True),
    Claim("4.2a", "peak of LIF with batch norm over operations alone", "2.05x to 2.23x",
          lambda v: conv_only(v, "peak_bytes", True), anywhere=True),
    Claim("4.2b", "time of LIF over operations alone", "1.24x to 1.31x", lambda v: conv_only(v, "seconds", False)),
    Claim("4.2b", "time of LIF with batch norm over operations alone", "1.40x to 1.42x",
          lambda v: conv_only(v, "seconds", True)),
    Claim("4.6a", "without batch norm: least share of vanilla's peak", "0.41x", lambda v: best_share(v, False),
          anywhere=True),
    Claim("4.6a", "without batch norm: largest speedup", "2.13x", lambda v: best_speedup(v, False)),
    Claim("4.6b", "with batch norm: least share of vanilla's peak", "0.33x", lambda v: best_share(v, True),
          anywhere=True),
    Claim("4.6b", "with batch norm: largest speedup", "1.94x", lambda v: best_speedup(v, True)),
    Claim("4.7a", "feature maps of all memory, vanilla and ours", "vanilla's the larger (drawn)", kept_share,
          anywhere=True),
    Claim("4.7b", "time by kernel, vanilla and ours", "vanilla waits more for launches (drawn)", lambda v: ""),
    Claim("4.8", "forward pass: TorchScript's time over ours, small to large", "grows with size (drawn)", scripted),
    *(Claim("4.9a", f"ImageNet, {name}, 4 GPUs: share of vanilla's peak", peak,
            lambda v, n=network: distributed(v, "peak_bytes", n), " --processes 4")
      for name, network, peak in (("ResNet34", "resnet34", "0.68x"), ("AlexNet", "alexnet", "0.38x"))),
    *(Claim("4.9b", f"ImageNet, {name}, 4 GPUs: speedup", speedup,
            lambda v, n=network: distributed(v, "seconds", n), " --processes 4")
      for name, network, speedup in (("ResNet34", "resnet34", "1.58x"), ("AlexNet", "alexnet", "1.81x"))),
)  # fmt: skip
TRACED = "`h2sim gpu record cifar10 --implementation vanilla,chapter4 -o mine.json`"

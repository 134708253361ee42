"""Models as their libraries and papers write them, before and after: reports/models.md.

    python reports/models.py --before OLDER.json > table.md      # from the root of a checkout, with the test extras
    python reports/models.py --refusals > OLDER.json             # with an older h2sim first on PYTHONPATH

Each model is exported with values at the sizes below, run on h2learn with the table 28nm, and verified.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))  # for tests.helpers

import torch
from torch import nn
from torch.nn import functional

warnings.simplefilter("ignore")  # the libraries' own

import h2sim  # noqa: E402
import h2sim.export  # noqa: E402
from h2sim.verify import verify_trace  # noqa: E402

STEPS, SAMPLES = 4, 2
TARGETS = torch.tensor([1, 0])
Case = tuple[nn.Module, Any, Callable[[Any, Any], torch.Tensor], dict[str, Any]]
CASES: dict[str, Callable[[], Case]] = {}


def case(name: str) -> Callable[[Callable[[], Case]], Callable[[], Case]]:
    """Registers a model under a name."""

    def kept(make: Callable[[], Case]) -> Callable[[], Case]:
        CASES[name] = make
        return make

    return kept


def rate(output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the mean over time, (T, N, classes), or of (N, classes)."""
    return functional.cross_entropy(output.mean(0) if output.dim() == 3 else output, targets)


def images(*shape: int) -> torch.Tensor:
    """The same random images at all timesteps, (T, N, *shape)."""
    return torch.rand(SAMPLES, *shape).expand(STEPS, SAMPLES, *shape)


def events(*shape: int) -> torch.Tensor:
    """Random spikes (T, N, *shape)."""
    return (torch.rand(STEPS, SAMPLES, *shape) < 0.2).float()


def spikingjelly(module: str, name: str, inputs: Callable[[], torch.Tensor], **options: Any) -> Callable[[], Case]:
    """A network of SpikingJelly's own models, all timesteps in one call, in training mode."""

    def make() -> Case:
        from spikingjelly.activation_based import functional as sj
        from spikingjelly.activation_based import neuron, surrogate

        from tests.helpers import zoo

        neurons = {"spiking_neuron": neuron.ParametricLIFNode if module == "parametric_lif_net" else neuron.LIFNode}
        settings = {"v_threshold": 0.3, "surrogate_function": surrogate.Rect()}
        model = getattr(getattr(zoo, module), name)(**neurons, **settings, **options)
        sj.set_step_mode(model, "m")
        return model.train(), inputs(), rate, {}

    return make


for title, inputs in (
    ("MNISTNet", lambda: images(1, 28, 28)),
    ("FashionMNISTNet", lambda: images(1, 28, 28)),
    ("CIFAR10Net", lambda: images(3, 32, 32)),
    ("CIFAR10DVSNet", lambda: torch.poisson(torch.full((STEPS, SAMPLES, 2, 128, 128), 0.2))),
    ("DVSGestureNet", lambda: events(2, 128, 128)),
):
    CASES[f"SpikingJelly {title}, 16 channels"] = spikingjelly("parametric_lif_net", title, inputs, channels=16)
CASES["SpikingJelly spiking_vgg11_bn"] = spikingjelly(
    "spiking_vgg", "spiking_vgg11_bn", lambda: images(3, 32, 32), num_classes=10
)
CASES["SpikingJelly spiking_resnet18"] = spikingjelly(
    "spiking_resnet", "spiking_resnet18", lambda: images(3, 32, 32), num_classes=10
)
for how in ("ADD", "AND", "IAND"):
    CASES[f"SpikingJelly sew_resnet18, {how}"] = spikingjelly(
        "sew_resnet", "sew_resnet18", lambda: images(3, 32, 32), num_classes=10, cnf=how
    )
CASES["SpikingJelly ms_resnet18"] = spikingjelly("ms_resnet", "ms_resnet18", lambda: images(3, 32, 32), num_classes=10)


def measured(make: Callable[[], Case]) -> dict[str, Any]:
    """What becomes of a model: its layers, what verify and run say of it, or why it was refused."""
    torch.manual_seed(0)
    model, inputs, loss, options = make()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.npz"
        try:
            h2sim.export.trace(model, inputs, TARGETS, loss, path, window_threshold=0.2, **options)
        except h2sim.H2SimError as error:
            return {"refused": str(error).splitlines()[0]}
        except RuntimeError as error:
            return {"refused": f"RuntimeError: {error}".splitlines()[0]}
        trace = h2sim.load_trace(path)
        report = verify_trace(h2sim.load_arch("h2learn"), trace)
        result = h2sim.simulate(h2sim.load_arch("h2learn"), trace)
        return {
            "layers": len(trace.meta.layers),
            "values": sum(row.checked for row in report.rows),
            "wrong": sum(row.wrong for row in report.rows),
            "notes": len(report.unchecked),
            "cycles": result.activity.steady_cycles,
            "energy_uj": 1e6 * result.cost.energy_j,
            "mb": path.stat().st_size / 1e6,
        }


def main() -> None:
    """Prints the table, or with --refusals what this h2sim says of each model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--refusals", action="store_true")
    parser.add_argument("--before")
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    chosen = {name: make for name, make in CASES.items() if asked.only in name}
    found = {}
    for number, (name, make) in enumerate(chosen.items(), start=1):
        print(f"{number}/{len(chosen)} {name}", file=sys.stderr)
        found[name] = measured(make)
    if asked.refusals:
        print(json.dumps({name: of.get("refused", "") for name, of in found.items()}, indent=1))
        return
    before = json.loads(Path(asked.before).read_text()) if asked.before else {}
    print("| model | before | layers | values checked | wrong | not checked | cycles a step | uJ a step | trace MB |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, of in found.items():
        said = before.get(name, "")
        was = (said if len(said) <= 90 else f"{said[:90]}...").replace("|", "/") or "accepted"
        if "refused" in of:
            print(f"| {name} | {was} | refused: {of['refused']} | | | | | | |")
            continue
        print(
            f"| {name} | {was} | {of['layers']} | {of['values']:,} | {of['wrong']} | {of['notes']} "
            f"| {of['cycles']:,} | {of['energy_uj']:.1f} | {of['mb']:.1f} |"
        )


if __name__ == "__main__":
    main()

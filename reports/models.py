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
Case = tuple[nn.Module, Any, torch.Tensor, Callable[[Any, Any], torch.Tensor], dict[str, Any]]
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
        return model.train(), inputs(), TARGETS, rate, {}

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


@case("snnTorch tutorial 5 (fc, Leaky)")
def tutorial_5() -> Case:
    from tests.export import test_models_snntorch as snn

    model = snn.FcNet(784, 1000, 10, num_steps=25)
    return model, torch.rand(SAMPLES, 784), TARGETS, snn.membrane_loss, {}


@case("snnTorch tutorial 6 (F.max_pool2d of currents)")
def tutorial_6() -> Case:
    from tests.export import test_models_snntorch as snn

    return snn.ConvNet(num_steps=25), torch.rand(SAMPLES, 1, 28, 28), TARGETS, snn.rate_loss, {}


@case("snnTorch tutorial 7 (nn.Sequential, init_hidden)")
def tutorial_7() -> Case:
    from tests.export import test_models_snntorch as snn

    frames = (torch.rand(25, SAMPLES, 2, 34, 34) < 0.2).float()
    return snn.neuromorphic(), frames, TARGETS, snn.count_loss, {"forward": snn.forward_pass}


@case("Norse MNIST convnet (LIFCell, LILinearCell)")
def norse_convnet() -> Case:
    from tests.export import test_models_norse as norse

    return norse.ConvNet(), events(1, 28, 28), TARGETS, norse.last_voltage, {"window_threshold": 0.001}


@case("Norse SequentialState (LIFBoxCell, LICell)")
def norse_sequence() -> Case:
    from tests.export import test_models_norse as norse

    return norse.box(norse.LICell), events(1, 28, 28), TARGETS, norse.last_voltage, {"forward": norse.run}


@case("sinabs convnet (IAFSqueeze, SumPool2d)")
def sinabs_convnet() -> Case:
    from tests.export import test_models_sinabs as sinabs

    model = sinabs.convnet(sinabs.NEURONS["IAFSqueeze"], lambda: sinabs.sl.SumPool2d(2))
    return model, sinabs.events(), TARGETS, functional.cross_entropy, {"forward": sinabs.squeezed}


def paper(make: Callable[[Any], nn.Module], inputs: Callable[[], torch.Tensor], loss: Any = rate) -> Callable[[], Case]:
    """A network as a paper's code writes it."""

    def made() -> Case:
        from tests.helpers import papers

        model = make(papers)
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    module.weight.mul_(4)  # at its first weights it would be silent
        return model, inputs(), TARGETS, functional.cross_entropy if loss is None else loss, {}

    return made


def tet_loss(output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Of (N, T, classes), at each timestep."""
    return functional.cross_entropy(output.flatten(0, 1), targets.repeat_interleave(output.shape[1]))


def own_lif() -> nn.Module:
    """A neuron of the tests' own, one timestep a call."""
    from tests.helpers.models import Lif

    return Lif(threshold=0.1)


CASES["TET, VGG, (N, T, ...)"] = paper(lambda p: p.TetVgg(2), lambda: events(2, 12, 12).transpose(0, 1), tet_loss)
CASES["TET, ResNet, neurons used twice"] = paper(
    lambda p: p.TetResNet(2), lambda: events(2, 12, 12).transpose(0, 1), tet_loss
)
CASES["tdBN, (N, C, H, W, T)"] = paper(
    lambda p: p.TdbnNet(2, steps=STEPS), lambda: torch.rand(SAMPLES, 2, 12, 12), None
)
CASES["DIET-SNN VGG, averages of spikes"] = paper(
    lambda p: p.DietVgg(own_lif, steps=STEPS, classes=2), lambda: torch.rand(SAMPLES, 3, 8, 8), None
)
CASES["MS-ResNet, weights on currents"] = paper(
    lambda p: p.MsResNet(own_lif, steps=STEPS, classes=2), lambda: torch.rand(SAMPLES, 3, 8, 8), None
)
CASES["CIFAR_BN of H2Learn's author, mean over time"] = paper(
    lambda p: p.CifarBn(STEPS, 2), lambda: torch.rand(SAMPLES, 3, 8, 8), None
)


def measured(make: Callable[[], Case]) -> dict[str, Any]:
    """What becomes of a model: its layers, what verify and run say of it, or why it was refused."""
    torch.manual_seed(0)
    model, inputs, targets, loss, options = make()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.npz"
        try:
            h2sim.export.trace(model, inputs, targets, loss, path, **{"window_threshold": 0.2, **options})
        except h2sim.H2SimError as error:
            return {"refused": str(error).splitlines()[0]}
        except (RuntimeError, TypeError) as error:  # an older h2sim knows no such neuron
            return {"refused": f"{type(error).__name__}: {error}".splitlines()[0]}
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
        was = before.get(name, "").replace("|", "/") or "accepted"
        if "refused" in of:
            print(f"| {name} | {was} | refused: {of['refused']} | | | | | | |")
            continue
        print(
            f"| {name} | {was} | {of['layers']} | {of['values']:,} | {of['wrong']} | {of['notes']} "
            f"| {of['cycles']:,} | {of['energy_uj']:.1f} | {of['mb']:.1f} |"
        )


if __name__ == "__main__":
    main()

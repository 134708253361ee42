"""What must hold of the bounds of any network, tried on random ones: `python -m tests.certify.soundness --nets N`.

Soundness is by enumeration: all corners of a box of spikes, all corners and random points of a box of pixels. That one
of the two bounds is the tighter one is not tried, because it does not hold.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from itertools import product

import torch

from h2sim.certify import bounds, image_spikes
from h2sim.trace import load_network
from h2sim.train.lif import Neuron
from h2sim.train.network import SpikingNetwork
from tests.certify import plain
from tests.certify.nets import Drawn, draw

SLACK = 1e-9
INSIDE = 200  # random points of a box of pixels


def true_margins(drawn: Drawn, inputs: torch.Tensor) -> tuple[dict, torch.Tensor]:
    """What the network does with inputs (T or 1, M, ...): (m and s of all layers, margins (M, classes - 1))."""
    values = plain.forward(drawn.network, inputs, drawn.timesteps)
    output = values[drawn.network.layers[-1]["name"]][1].mean(0).flatten(1)
    others = [j for j in range(output.shape[1]) if j != drawn.label]
    return values, output[:, [drawn.label]] - output[:, others]


def outside(found, values) -> list[str]:
    """Layers of which a membrane or a spike lies outside its bounds."""
    wrong = []
    for name, layer in found.layers.items():
        m, s = values[name]
        if bool((m < layer.m_lower - SLACK).any() | (m > layer.m_upper + SLACK).any()):
            wrong.append(f"{name}: m")
        if layer.s_lower is not None and bool((s < layer.s_lower).any() | (s > layer.s_upper).any()):
            wrong.append(f"{name}: s")
    return wrong


def box_of(drawn: Drawn, lower=None, upper=None):
    """Bounds between two inputs; those of the drawn box where none are given."""
    lower, upper = drawn.lower if lower is None else lower, drawn.upper if upper is None else upper
    if drawn.network.reads_analog:
        lower, upper = lower[0], upper[0]
    return bounds(drawn.network, lower, upper, torch.tensor([drawn.label]), timesteps=drawn.timesteps)


def inputs_of(drawn: Drawn, seed: int) -> torch.Tensor:
    """All corners of the box, and random points where it is one of pixels."""
    found = plain.corners(drawn.lower, drawn.upper)
    if drawn.network.reads_analog:
        shares = torch.rand((1, INSIDE, *drawn.lower.shape[2:]), generator=torch.Generator().manual_seed(seed)).double()
        found = torch.cat([found, drawn.lower + shares * (drawn.upper - drawn.lower)], 1)
    return found


@torch.no_grad()
def faults(drawn: Drawn, seed: int) -> list[str]:
    """Everything that is wrong with the bounds of one network."""
    found = box_of(drawn)
    values, exact = true_margins(drawn, inputs_of(drawn, seed))
    wrong = [f"outside S-IBP: {line}" for line in outside(found, values)]
    least = exact.min(0).values
    wrong += [f"{name} {bound[0].tolist()} above {least.tolist()}"
              for name, bound in (("S-IBP", found.ibp), ("S-CROWN", found.crown), ("both", found.certificate))
              if bool((bound[0] > least + SLACK).any())]  # fmt: skip
    return wrong + _of_one_point(drawn) + _of_fewer(drawn, found, seed)


def _of_one_point(drawn: Drawn) -> list[str]:
    """Where nothing is open both bounds are what the network does."""
    found = box_of(drawn, upper=drawn.lower)
    values, exact = true_margins(drawn, drawn.lower)
    apart = [float((bound - exact).abs().max()) for bound in (found.ibp, found.crown)]
    apart += [float((side - values[name][0]).abs().max()) for name, layer in found.layers.items()
              for side in (layer.m_lower, layer.m_upper)]  # fmt: skip
    return [f"of one point: {apart}"] if max(apart) > 1e-12 else []


def _of_fewer(drawn: Drawn, found, seed: int) -> list[str]:
    """S-IBP of a box within the box is no lower. It does not hold of S-CROWN."""
    closed = torch.rand(drawn.lower.shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    inner = box_of(drawn, upper=torch.where(closed, drawn.lower, drawn.upper))
    wrong = ["S-IBP of fewer open inputs is lower"] if bool((inner.ibp < found.ibp - 1e-12).any()) else []
    for name, layer in found.layers.items():
        within = inner.layers[name]
        if bool((within.m_lower < layer.m_lower - 1e-12).any()) or bool((within.m_upper > layer.m_upper + 1e-12).any()):
            wrong.append(f"S-IBP of fewer open inputs is wider in {name}")
    return wrong


@torch.no_grad()
def unlike_the_plain_one(drawn: Drawn) -> list[str]:
    """Where the bounds are not those of plain.py."""
    network, steps = drawn.network, drawn.timesteps
    maps = plain.matrices(network, {"input": tuple(drawn.lower.shape[2:])})
    lower, upper = (
        side[:, 0].flatten(1).expand(steps, -1).numpy() if drawn.static else side[:, 0].flatten(1).numpy()
        for side in (drawn.lower, drawn.upper)
    )
    ours, theirs = box_of(drawn), plain.interval_bounds(network, maps, lower, upper)
    wrong = [
        f"{name}: {what}"
        for name, layer in ours.layers.items()
        for what, mine, yours in zip(
            ("m lower", "m upper", "s lower", "s upper"),
            (layer.m_lower, layer.m_upper, *layer.sent),
            theirs[name],
            strict=True,
        )
        if not torch.allclose(mine[:, 0].flatten(1), torch.tensor(yours), atol=SLACK)
    ]
    one, others = torch.eye(network.classes).double().numpy(), [j for j in range(network.classes) if j != drawn.label]
    for number, other in enumerate(others):
        row = one[drawn.label] - one[other]
        relaxed = plain.relaxed_bound(network, maps, theirs, lower, upper, row, static=drawn.static)
        if abs(relaxed - float(ours.crown[0, number])) > SLACK:
            wrong.append(f"S-CROWN {float(ours.crown[0, number])}, plainly {relaxed}")
    return wrong


LARGE = ("128FC-64FC-10FC", "8C3S2-16C3S2-32FC-10FC", "6C3-AP2-8C3(BN)-AP2(Spikes)-10FC")
PART = 250  # inputs that a large network is given at once


def large(notation: str, seed: int = 0) -> tuple[SpikingNetwork, torch.Tensor]:
    """A network for pictures of 28 x 28 with random weights, under which neurons do fire, and a picture."""
    network = load_network(notation, (1, 28, 28), 10)
    generator = torch.Generator().manual_seed(seed)
    made = SpikingNetwork(list(network.layers), Neuron(0.25, 0.25, (-0.25, 0.75)), generator).double()
    image = torch.rand((1, 1, 28, 28), generator=generator, dtype=torch.float64)
    made.normalise(image.unsqueeze(0), 1, 0.3)
    return made.eval(), image


@torch.no_grad()
def faults_within(made: SpikingNetwork, inputs: torch.Tensor, found, label: int, timesteps: int) -> list[str]:
    """What inputs (T' or 1, M, ...) of the box show to be wrong."""
    wrong = []
    for part in inputs.split(PART, 1):
        values, exact = true_margins(Drawn("large", made, inputs, inputs, timesteps, label), part)
        least = exact.min(0).values
        wrong += outside(found, values)
        wrong += [name for name, bound in (("S-IBP", found.ibp[0]), ("S-CROWN", found.crown[0]))
                  if bool((bound > least + SLACK).any())]  # fmt: skip
    return wrong


@torch.no_grad()
def faults_of_large(notation: str, epsilon: float, count: int, seed: int) -> list[str]:
    """Random corners of the box that a picture and its random numbers make, and random pictures with the same ones."""
    made, image = large(notation, seed)
    label, steps = 4, 3
    generator = torch.Generator().manual_seed(seed + 1)
    draws = torch.rand((steps, *image.shape), generator=generator, dtype=image.dtype)
    lower, upper = image_spikes(image, epsilon, draws)
    found = bounds(made, lower, upper, torch.tensor([label]))
    places = torch.nonzero((lower != upper).flatten())[:, 0]
    wrong = []
    for start in range(0, count, PART):
        many = min(PART, count - start)
        choices = torch.rand((many, len(places)), generator=generator) < 0.5
        wrong += faults_within(made, plain.at_corners(lower, upper, choices, places), found, label, steps)
        shares = torch.rand((many, 1, 28, 28), generator=generator, dtype=image.dtype)
        moved = (image + epsilon * (shares - 0.5)).clamp(0, 1)
        wrong += faults_within(made, (moved > draws).to(image.dtype), found, label, steps)
    return wrong


def main() -> int:
    """Tries as many networks as it is told to; status 1 if one is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most-open", type=int, default=12, help="Open inputs: all their 2^n corners are tried.")
    parser.add_argument(
        "--corners", type=int, default=0, help="Random ones of each large network: 10000 for a release."
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)
    tried, compared, wrong = Counter[str](), Counter[str](), 0
    for seed in range(asked.seed, asked.seed + asked.nets):
        drawn = draw(seed, asked.most_open)
        tried[drawn.family] += 1
        found = box_of(drawn)
        compared["S-CROWN above S-IBP"] += int((found.crown > found.ibp + SLACK).sum())
        compared["equal"] += int(((found.crown - found.ibp).abs() <= SLACK).sum())
        compared["S-CROWN below"] += int((found.crown < found.ibp - SLACK).sum())
        for line in faults(drawn, seed) + unlike_the_plain_one(drawn):
            wrong += 1
            print(f"seed {seed} ({drawn}): {line}")
    for notation, epsilon in product(LARGE if asked.corners else (), (0.02, 0.1)):
        found = faults_of_large(notation, epsilon, asked.corners, asked.seed)
        wrong += len(found)
        print(f"{notation}, epsilon {epsilon}, {asked.corners} corners and pictures: {found or 'sound'}", flush=True)
    print(f"{asked.nets} networks, {wrong} faults; {dict(tried)}; margins: {dict(compared)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""Figures 4.2 and 4.6 to 4.9 of the source from record.json: figures.md, and figures 4.2, 4.6 and 4.7 as pictures.

    python reports/gpu/figures.py [--plot-format png,svg,pdf] [--plot-width MM] [-o FOLDER]

Nothing is measured here: measure.py does that, and what it has not measured is said, with the command that does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from measure import CIFAR10, HERE, NORMS, PLAIN_WAYS, STEPS, Record, read
from pictures import draw
from published import CLAIMS, TRACED, View, parts, share

from h2sim.cli.plots import plot_options
from h2sim.document.pictures import Plots
from h2sim.io.files import write_text

NOT = "not measured"
PAGE = """# Chapter 4's figures: training on the CPU, and what a GPU is to add

<verdict>

Made by `python reports/gpu/figures.py` from `record.json`, which `python reports/gpu/measure.py` fills: a quarter of
an hour on one core; it measures what is missing. float32, one thread, noise as images, each point in a process of its
own.

Peaks on the CPU are the resident memory's high-water mark of one step above what the process held before it, which has
the weights and their gradients; on a GPU they are what torch's tensors hold, those included. Table 4.1 is lost. The
network `medium` is recovered from the 71.13 MB that section 4.1.2 prints for its maps; `large`, AlexNet and ResNet34
are those of the authors' code; `small` has one convolution a stage [A]. The source's batch is 64; on the CPU it is 4,
but for the last rows.

| way | what it keeps |
|---|---|
| `conv` | convolutions and products alone, without neurons and norms |
| `vanilla` | layer by layer, autograd through every timestep: the source's plain version |
| `trainer` | what `h2sim train --backend plain` keeps, with torch's batch norm |
| `checkpoint` | `torch.utils.checkpoint` around each [BN-LIF-product] |
| `fused` | units of `h2sim.fused`, with `sliced=False` |
| `fused-sliced` | the same by default: in parts of the samples where their map outweighs the weights |

## Published beside measured

<claims>

## Figure 4.2: vanilla over operations alone

![](figure-4.2.png)

## Figure 4.6: peak memory

In brackets the share of `vanilla`.

![](figure-4.6.png)

<peaks>

All ways compute the same loss (`record.json`), but for one spike: medium, batch norm, T 32. There one of
8.4 million membranes of the third layer lies 2e-9 from the threshold, and torch's batch norm and the
units round it to two sides; the units' spike is float64's. The losses are 2.2066 and 2.1936.

## Figure 4.7: where the memory goes

![](figure-4.7.png)

<breakdown>

## On a GPU

<gpu>

## Trends

<trends>
"""


def verdict(view: View) -> Iterator[str]:
    """What was found, in a sentence."""
    plain, normed = (_share(view, "medium", norm, 10, 64) for norm in NORMS)
    yield f"Units of h2sim.fused take {plain} of layer-by-layer vanilla's peak memory without batch norm and {normed}"
    yield "with it (medium, T 10, batch 64, on a CPU; the source's best on GPUs: 0.41, 0.33). No GPU was at hand."


def claims(record: Record) -> Iterator[str]:
    """A line per published number: the source's, the CPU's, a GPU's, and the command behind what is missing."""
    cpu, cuda = View(record, "cpu"), View(record, "cuda")
    yield "| figure | what | published | CPU | GPU | measured by |"
    yield "|---|---|---|---|---|---|"
    for claim in CLAIMS:
        here, there = claim.value(cpu), claim.value(cuda)
        how = [claim.command("cpu")] if claim.anywhere else []
        how.append(TRACED if claim.figure == "4.7b" else claim.command("cuda"))
        told = (here or (NOT if claim.anywhere else "-"), there or NOT, "; on a GPU ".join(how))
        yield f"| {claim.figure} | {claim.what} | {claim.published} | {' | '.join(told)} |"


def peaks(view: View) -> Iterator[str]:
    """A line per network, norm and T: each way's peak in MB and its share of vanilla's; on a GPU the speedup too."""
    yield "| network | batch norm | T | batch | conv, MB | " + " | ".join(f"{way}, MB" for way in PLAIN_WAYS) + " |"
    yield "|---|---|---:|---:|---:|" + "---:|" * len(PLAIN_WAYS)
    order = [(n, norm, t, view.batch) for n in CIFAR10 for norm in NORMS for t in STEPS]
    for network, norm, steps, batch in dict.fromkeys([*order, ("medium", False, 10, 64), ("medium", True, 10, 64)]):
        points = [view.get(network, norm, steps, way, batch) for way in PLAIN_WAYS]
        if any(points):
            conv = {} if norm else view.get(network, norm, steps, "conv", batch)
            cells = [_cell(conv, {}) if not norm else "", *(_cell(point, points[0]) for point in points)]
            yield f"| {network} | {'yes' if norm else 'no'} | {steps} | {batch} | {' | '.join(cells)} |"


def _cell(point: dict[str, Any], vanilla: dict[str, Any]) -> str:
    if not point:
        return NOT
    told = []
    if vanilla and point is not vanilla:
        told.append(f"{point['peak_bytes'] / vanilla['peak_bytes']:.2f}")
        told += [f"{vanilla['seconds'] / point['seconds']:.2f}x"] if "seconds" in point else []
    return f"{point['peak_bytes'] / 1e6:.0f}" + (f" ({', '.join(told)})" if told else "")


def breakdown(view: View) -> Iterator[str]:
    """Figure 4.7a as a table."""
    both = [parts(view, way) for way in ("vanilla", "fused-sliced")]
    if both[0] is None or both[1] is None:
        return
    yield "| medium, batch norm, T 10, batch 64 | vanilla, MB | ours, MB |"
    yield "|---|---:|---:|"
    for name in both[0]:
        yield f"| {name} | {both[0][name]:.0f} | {both[1][name]:.0f} |"


def trends(view: View) -> Iterator[str]:
    """What the source says of figure 4.6, beside the shares of vanilla's peak."""
    last = STEPS[-1]
    for norm in NORMS:
        told = ", ".join(f"{network} {_share(view, network, norm, last)}" for network in CIFAR10)
        yield f"* {'With' if norm else 'Without'} batch norm, T {last}: {told}. Larger networks save more, as printed."
    spread = ", ".join(_share(view, "large", False, steps) for steps in STEPS)
    yield f"* Large, without batch norm, T {', '.join(map(str, STEPS))}: {spread}. The source, whose batch is 64, finds"
    yield "  little change with T; at a batch of 4, work on weights, which does not grow with T, is much of it."
    plain, normed = (_share(view, "medium", norm, 10, 64) for norm in NORMS)
    yield f"* Medium, T 10, batch 64: {plain} without and {normed} with batch norm, of which vanilla keeps more maps."


def _share(view: View, network: str, norm: bool, steps: int, batch: int = 0) -> str:
    found = share(view, network, norm, steps, batch=batch)
    return NOT if found is None else f"{found:.2f}"


def page(record: Record) -> str:
    """figures.md."""
    cpu, text = View(record, "cpu"), PAGE
    for name, lines in (
        ("verdict", verdict(cpu)),
        ("claims", claims(record)),
        ("peaks", peaks(cpu)),
        ("breakdown", breakdown(cpu)),
        ("trends", trends(cpu)),
    ):
        text = text.replace(f"<{name}>", "\n".join(lines))
    return text.replace("<gpu>", _gpu(View(record, "cuda")))


def _gpu(view: View) -> str:
    """What a GPU's points add."""
    rows = [line for line in peaks(view) if line.startswith("| ")][1:]
    if not rows:
        return (
            "Nothing is measured on a GPU yet. Points that `measure.py --device cuda` adds to `record.json` stand here."
        )
    gpus = sorted({point["gpu"] for key, point in view.record.items() if key.device == "cuda"})
    return "\n".join([f"On {', '.join(gpus)}; in brackets share of vanilla's peak, and speedup:", "", *peaks(view)])


@click.command(help=__doc__)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=HERE, help="Folder of page and pictures.")
@plot_options
def main(output: Path, pictures: Plots) -> None:
    record = read(HERE / "record.json")
    write_text(output / "figures.md", page(record))
    draw(View(record, "cpu"), output, pictures)


if __name__ == "__main__":
    main()

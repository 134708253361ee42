"""What the tests that look at traces share: the commands, a count by numpy alone, small trace files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from click.testing import CliRunner, Result
from matplotlib.figure import Figure

from h2sim.cli import main
from h2sim.document.drawing import one_look
from h2sim.document.pictures import Make, Plots
from h2sim.trace import Sparsity, Trace, load_network, synthesise, write_trace
from tests.helpers.traces import NOTATION, SHAPE, Members

RESIDUAL = Path(__file__).parents[1] / "data" / "encode-residual.npz"


def h2sim(*args: str | Path) -> Result:
    """`h2sim trace` with these arguments."""
    return CliRunner().invoke(main, ["trace", *(str(a) for a in args)])


def good(*args: str | Path) -> str:
    """What `h2sim trace` prints where it succeeds."""
    result = h2sim(*args)
    assert result.exit_code == 0, result.output
    return str(result.stdout)


def bad(*args: str | Path) -> str:
    """What `h2sim trace` says on standard error where it refuses."""
    result = h2sim(*args)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return str(result.stderr)


def bits_of(trace: Trace, layer: str, kind: str) -> npt.NDArray[np.int64]:
    """(T, N, C, H, W) of 0 and 1, unpacked here and by numpy alone."""
    entry = trace.meta.layer(layer)
    packed = np.load(trace.path)[f"{layer}.{kind}"]
    flat = np.unpackbits(packed, axis=-1)[..., : entry.neurons]
    return flat.reshape(*flat.shape[:2], *entry.out_chw).astype(np.int64)


def inference_trace(folder: Path, name: str = "inference.npz", spiking: bool = True) -> Path:
    """A forward-only trace; its read-out may have no mask at all."""
    network = load_network(NOTATION, SHAPE)
    made, made_members = synthesise(network, 3, 2, Sparsity(0.7, 0.5, 0.6), seed=1, phases=("forward",))
    meta, members = json.loads(json.dumps(made)), dict(made_members)
    if not spiking:
        meta["layers"][-1]["spiking"] = False
        members = {name: array for name, array in members.items() if not name.startswith("fc1.")}
    write_trace(folder / name, meta, members)
    return folder / name


def written(folder: Path, name: str, meta: dict[str, Any], members: Members) -> Path:
    """The trace file, after the format's own writer."""
    write_trace(folder / name, meta, members)
    return folder / name


def drawn_into(kept: dict[str, Figure], make: Make, path: Path, plots: Plots, *, title: str = "") -> list[Path]:
    """Stands in for `draw_picture`: keeps a picture's figure by its file's name, and writes none."""
    with one_look():
        kept[f"{path.name}.png"] = make(plots.width_of("png"))
        kept[f"{path.name}.png"].suptitle(title)
    return [path]

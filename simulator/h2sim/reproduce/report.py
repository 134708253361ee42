"""Regenerates every claim and figure, and writes the report's folder (`h2sim reproduce`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from matplotlib.figure import Figure

from h2sim.document import frame_csv
from h2sim.document.pictures import PNG, Plots, draw_picture
from h2sim.errors import ReproductionError, at
from h2sim.io.files import write_text
from h2sim.io.progress import Say
from h2sim.reproduce import design_space, engines, figures, inference, joint, rivals, system
from h2sim.reproduce.claims import Assumption, Claim, load_assumptions, load_claims
from h2sim.reproduce.engines import Measure
from h2sim.reproduce.lab import Lab
from h2sim.reproduce.page import page, rows_table, spans_table
from h2sim.reproduce.sensitivity import Row, regenerate
from h2sim.reproduce.setting import Setting
from h2sim.reproduce.sub_batches import SubBatches, load_all

MEASURES: dict[str, Measure] = {
    **engines.MEASURES, **design_space.MEASURES, **system.MEASURES, **inference.MEASURES, **rivals.MEASURES,
}  # fmt: skip
JOINT = "area-and-power"
COMMAND = "h2sim reproduce -o reports/h2learn"
CLAIMS_TITLE = "Ours over theirs: every claim that is a number"


def _backward_points(lab: Lab, setting: Setting) -> pd.DataFrame:
    """Both parts of figure 3.12 in one table; the column `part` says which: area or modes."""
    area, modes = engines.backward_area_points(lab, setting), engines.backward_mode_points(lab, setting)
    return pd.concat([area.assign(part="area"), modes.assign(part="modes")], ignore_index=True)


def _backward_plot(frame: pd.DataFrame, theirs: figures.Theirs, width_mm: float) -> Figure:
    area = frame[frame["part"] == "area"].dropna(axis=1).astype({"group_size": int})
    return figures.backward(area, frame[frame["part"] == "modes"].dropna(axis=1), theirs, width_mm)


def _lut_pe_caption(frame: pd.DataFrame, theirs: figures.Theirs) -> str:
    out = frame[(frame["parallelism"] == 4) & (frame["sub_luts"] == 1)].iloc[0]
    large = out["adder_area_um2"] + out["register_area_um2"]
    return (
        "Fewer sub-LUTs need fewer adders but more registers; with 3 sub-LUTs of 8 entries both are few. The numbers "
        f"come from the energy table alone, without a simulation. {out['design']} is left out of the picture: "
        f"{large:,.0f} \u00b5m\u00b2 at P = 4."
    )


FIGURES = (
    figures.FigureOf("figure-3.10", "Figure 3.10: LUT PE of the Forward Engine",
             _lut_pe_caption, engines.lut_pe_points, figures.lut_pe),
    figures.FigureOf("figure-3.11", "Figure 3.11: Forward and Weight Update Engine",
             "The 4x10x256x56x56 layer alone on each engine, memory included, by parallelism, with LUTs and with "
             "adders.",
             engines.lut_engine_points, figures.lut_engines),
    figures.FigureOf("figure-3.12", "Figure 3.12: Backward Engine",
             "Area by the size of a PE group; energy and speedup of the four designs at 75 % / 75 % sparsity.",
             _backward_points, _backward_plot),
    figures.FigureOf("figure-3.13", "Figure 3.13: design space",
             "Throughput of each engine alone on the layer when one dimension is changed. Its buffers grow too [A].",
             design_space.points, figures.design_space),
    figures.FigureOf("figure-3.14a", "Figure 3.14a: against SpinalFlow",
             "Forward pass of the CIFAR10 network on a sub-batch of 4, layer by layer, without the encoding layer. "
             "SpinalFlow is modelled from secondary figures: its paper was not at hand.",
             rivals.spinalflow_points, figures.spinalflow),
    figures.FigureOf("figure-3.14b", "Figure 3.14b: layers of the CIFAR10 network",
             "Throughput of each engine on each layer. The source prints no time of a single layer on a V100, so that "
             "its sentence on early layers cannot be tested. A V100 at its peak stands beside.",
             rivals.layer_points, figures.layers),
    figures.FigureOf("figure-3.15", "Figure 3.15: against the V100",
             system.caption, system.points, figures.machine),
    figures.FigureOf(JOINT, "Table 3.6's area and power together",
             joint.caption, joint.points, figures.joint),
    figures.FigureOf("table-3.7", "Table 3.7: inference, by the size of the input",
             "One sample, T = 10. The source does not print the size of the networks' inputs.",
             inference.points, figures.inference),
)  # fmt: skip


@dataclass(frozen=True)
class Reproduction:
    """All that the report says.

    rows: the claims. tables: the figures' numbers by stem. scenario: every claim under the one setting of joint.py, by
    name. sub_batches: the committed summaries of real training. tables, scenario and sub_batches are empty where only
    some claims were asked for.
    """

    rows: tuple[Row, ...]
    tables: dict[str, pd.DataFrame]
    assumptions: dict[str, Assumption]
    scenario: dict[str, float]
    sub_batches: tuple[SubBatches, ...] = ()

    @property
    def theirs(self) -> dict[str, float]:
        """What the source reports, by name of the claim."""
        return {row.name: row.claim.theirs for row in self.rows}


def reproduce(names: Sequence[str] = (), progress: Say | None = None) -> Reproduction:
    """Measures the claims of these names; without names all claims, and the numbers of all figures.

    Raises ReproductionError for an unknown name, and where claims.yaml and MEASURES do not name the same claims.
    """
    assumptions = load_assumptions()
    every = load_claims(assumptions)
    claims = _chosen(every, names)
    say = progress or (lambda what: None)
    with Lab() as lab:
        rows = []
        others = {name: (claim, partial(MEASURES[name], lab)) for name, claim in every.items()}
        for name, claim in claims.items():
            say(name)
            rows.append(regenerate(name, claim, assumptions, others[name][1], others))
        tables: dict[str, pd.DataFrame] = {}
        for figure in FIGURES if not names else ():
            say(figure.stem)
            tables[figure.stem] = figure.points(lab, Setting())
        scenario = {}
        if not names:
            theirs = {name: claim.theirs for name, claim in claims.items()}
            setting = joint.scenario(tables[JOINT], theirs)
            for name in claims:
                say(f"{name}, one setting for all")
                scenario[name] = MEASURES[name](lab, setting)
        summaries = () if names else load_all(lab.arch(Setting()))
    return Reproduction(tuple(rows), tables, assumptions, scenario, summaries)


def _chosen(claims: dict[str, Claim], names: Sequence[str]) -> dict[str, Claim]:
    if claims.keys() != MEASURES.keys():
        odd = ", ".join(sorted(claims.keys() ^ MEASURES.keys()))
        raise ReproductionError(at("claims.yaml", "claims", "a measure for each, and each measure once", odd))
    for name in names:
        if name not in claims:
            raise ReproductionError(at("reproduce", "claim", f"one of {', '.join(claims)}", repr(name)))
    return {name: claim for name, claim in claims.items() if not names or name in names}


def write(found: Reproduction, folder: Path, plots: Plots = PNG) -> list[Path]:
    """Writes README.md, rows.csv, spans.csv, the claims' picture, a CSV and a picture per figure. Returns their paths.

    README.md shows the PNGs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"rows": rows_table(found.rows, found.scenario), "spans": spans_table(found.rows), **found.tables}
    paths = []
    for stem, frame in tables.items():
        paths.append(folder / f"{stem}.csv")
        write_text(paths[-1], frame_csv(frame))
    for figure in FIGURES:
        make = partial(figure.plot, found.tables[figure.stem], found.theirs)
        paths += draw_picture(make, folder / figure.stem, plots, title=figure.title)
    paths += draw_picture(partial(figures.claims, found.rows), folder / "claims", plots, title=CLAIMS_TITLE)
    paths.append(folder / "README.md")
    shown = [(f.stem, f.title, f.caption(found.tables[f.stem], found.theirs)) for f in FIGURES]
    write_text(paths[-1], page(found.rows, found.assumptions, shown, found.scenario, COMMAND, found.sub_batches))
    return paths


def drawn(found: Reproduction) -> list[tuple[str, str, str, bytes]]:
    """Stem, title, text and PNG of each figure, for a page that holds them itself."""
    shown = []
    with TemporaryDirectory() as aside:
        for figure in FIGURES:
            frame = found.tables[figure.stem]
            (path,) = draw_picture(partial(figure.plot, frame, found.theirs), Path(aside) / figure.stem)
            shown.append((figure.stem, figure.title, figure.caption(frame, found.theirs), path.read_bytes()))
    return shown

"""Table 3.6's area and power together: which one setting comes nearest to both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from h2sim.reproduce.lab import Lab
from h2sim.reproduce.setting import Reading, Setting
from h2sim.reproduce.system import highest_power_w, total_area_mm2

BUFFER_SCALES = (1, 2, 4, 6, 8, 9, 10)
TABLES = ("28nm-hp360", "28nm-lop", "28nm", "28nm-mixed", "28nm-lstp")
PowerReading = Literal["step", "busiest"]
READINGS: tuple[PowerReading, ...] = ("step", "busiest")


@dataclass(frozen=True, kw_only=True)
class GridPoint:
    """One row of `points`: an energy table, a buffer scale, a reading of 'max power', and what they give."""

    table: str
    sram: str
    buffer_scale: int
    power_reading: PowerReading
    area_mm2: float
    power_w: float


def points(lab: Lab, setting: Setting) -> pd.DataFrame:
    """One row per SRAM flavour, size of the buffers and reading of 'max power': area (mm2) and highest power (W)."""
    rows = []
    for table in TABLES:
        sram = lab.table(Setting(table=table)).sram
        for scale in BUFFER_SCALES:
            for reading in READINGS:
                changed = setting.changed({"table": table, "buffer_scale": scale, "reading": {"power": reading}})
                rows.append({
                    "table": table, "sram": f"{sram.flavour}, {sram.temperature_k:g} K", "buffer_scale": scale,
                    "power_reading": reading, "area_mm2": total_area_mm2(lab, changed),
                    "power_w": highest_power_w(lab, changed),
                })  # fmt: skip
    return pd.DataFrame(rows)


def nearest(frame: pd.DataFrame, theirs: Mapping[str, float]) -> GridPoint:
    """The row with the smallest error, where a row's error is the larger of the relative errors of area and power."""
    errors = pd.concat(
        [(frame["area_mm2"] / theirs["area"] - 1).abs(), (frame["power_w"] / theirs["power"] - 1).abs()], axis=1
    ).max(axis=1)
    best = frame.iloc[int(errors.to_numpy().argmin())]
    return GridPoint(
        table=str(best["table"]),
        sram=str(best["sram"]),
        buffer_scale=int(best["buffer_scale"]),
        power_reading="busiest" if best["power_reading"] == "busiest" else "step",
        area_mm2=float(best["area_mm2"]),
        power_w=float(best["power_w"]),
    )


def scenario(frame: pd.DataFrame, theirs: Mapping[str, float]) -> Setting:
    """The setting of the nearest row. It is fitted to area and power, so that every other claim is a test of it."""
    best = nearest(frame, theirs)
    return Setting(table=best.table, buffer_scale=best.buffer_scale, reading=Reading(power=best.power_reading))


def caption(frame: pd.DataFrame, theirs: Mapping[str, float]) -> str:
    """The figure's text: which setting is nearest, and how far it is from the printed area and power."""
    best = nearest(frame, theirs)
    reading = {"step": "the mean of a step", "busiest": "all engines at their busiest layer at once"}
    return (
        "Larger buffers alone reach the printed area, and the printed power, but not both at one size. The point "
        f"of the grid that is nearest to both has buffers x{best.buffer_scale} and SRAM {best.sram}, with the power "
        f"read as {reading[best.power_reading]}. "
        f"It gives {best.area_mm2:.1f} mm2 ({best.area_mm2 / theirs['area'] - 1:+.1%}) "
        f"and {best.power_w:.2f} W ({best.power_w / theirs['power'] - 1:+.1%}). "
        "The section 'One setting for all' tests every other number under this setting."
    )

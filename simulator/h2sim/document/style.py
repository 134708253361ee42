"""One look for every picture and page: colours by what they mean, hatches, markers and sizes. Needs no matplotlib.

Each colour has a contrast of at least 3 : 1 against white, and those of one picture stay apart for whoever does not see
red, green or blue. They differ in a hatch, a marker or a dash too, for whoever sees no colour.
"""

from __future__ import annotations

from dataclasses import dataclass

BLUE, SKY, GREEN, GOLD = "#0072b2", "#2f97cf", "#008f68", "#b07d00"
RED, PURPLE, GREY, INK, WHITE = "#b2182b", "#882255", "#767676", "#333333", "#ffffff"
FAINT = "#e4e4e4"  # behind data: where there is nothing
CLOUD = "#8a8a8a"  # points that are there only to be many
GRADIENT = "viridis"  # of numbers
SERIES = (BLUE, GOLD, GREEN, PURPLE, SKY, RED)  # of things without a colour of their own, and their hatches
HATCHES = ("", "/////", ".....", "\\\\\\\\\\", "|||||", "xxxxx")

FONT = "DejaVu Sans"  # comes with matplotlib: the same letters everywhere
TITLE_PT, LABEL_PT, TICK_PT, NOTE_PT = 8.0, 7.0, 6.0, 5.5
LEAST_PT = 5.0  # what a paper still prints
AXIS_PT, LINE_PT, HATCH_PT = 0.6, 1.1, 0.5  # widths
COLUMN_MM, PAGE_MM = 89.0, 183.0  # widths of a column and of a page of two
FORMATS = ("png", "svg", "pdf")  # of pictures
DPI = 200  # of PNG, and of what is pixels in vector formats
WIDE_MM = 120.0  # from here on panels stand beside each other


@dataclass(frozen=True)
class Look:
    """How one meaning is drawn: the hatch of a bar (white on its colour), the marker and the dash of a line."""

    colour: str
    hatch: str = ""
    marker: str = "o"
    dash: str = "-"


ENGINES = {
    "forward": Look(BLUE),
    "weight_update": Look(GOLD, "/////", "s", "--"),
    "backward": Look(RED, ".....", "^", "-."),
}
PHASES = ENGINES  # each engine has its own
CYCLES = {
    "compute": Look(BLUE),
    "fill": Look(SKY, "....."),
    "stall: read": Look(RED, "/////"),
    "stall: write": Look(GOLD, "\\\\\\\\\\"),
    "stall: wait": Look(GREY, "|||||"),
}
COMPONENTS = {  # of energy and area
    "pe_array": Look(BLUE),
    "acc": Look(SKY, "....."),
    "soma": Look(GREEN, "/////"),
    "grad": Look(GREEN, "/////"),
    "glb": Look(GOLD, "\\\\\\\\\\"),
    "leakage": Look(GREY, "|||||"),
    "offchip": Look(PURPLE, "xxxxx"),
}
RATES = {
    "spikes": Look(BLUE),
    "window": Look(GOLD, "/////", "s", "--"),
    "grad": Look(RED, ".....", "^", "-."),
    "kept": Look(GREEN, "\\\\\\\\\\", "D", ":"),
}
OURS, OTHER = Look(BLUE), Look(RED, "/////", "s", "--")  # who a ratio is in favour of
THEIRS = Look(RED, "", "*", "--")  # what a source reports
IDEAL = Look(GREY, "", "", ":")
SCALING = {"strong": Look(BLUE), "weak": Look(GOLD, "", "s", "--")}
LOG = {"accuracy": Look(BLUE), "loss": Look(GREY, "", "s", "--")}
FRONT, BASE = Look(BLUE), Look(RED, "", "*")  # of a sweep
MEDIAN = Look(SKY, "", "s")
MARKED = RED  # among the colours of a gradient

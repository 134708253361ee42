"""What a better H2Learn would be: runs the sweep `study` and writes reports/sweeps/study.md and study.csv.

    python reports/sweeps/study.py [--folder DIR] [--budget N]

The five networks of table 3.4: four together, ImageNet on fewer machines by itself. Both sweeps go on where an earlier
run of this command ended. The points stay in DIR (not committed); what is committed is the summary.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pandas as pd

import h2sim
from h2sim.sweeps.frame import frame_of
from h2sim.sweeps.importance import importance
from h2sim.sweeps.run import load_sweep

HERE = Path(__file__).parent
IMAGENET = "traces={network: imagenet, sparsity: table-3.2, name: imagenet-iid}"
WORDS = {"engines.forward.": "FE ", "engines.weight_update.": "WUE ", "engines.backward.": "BE ", "memory.": ""}
GB = 10**9
PUBLISHED = 128 * GB  # bytes per second of each memory of h2learn
PAIR = ("mnist-iid", "mnist-table34")  # the same network, on masks that are independent bits and on real ones
DERIVED = ("sub_luts", "sub_lut_size")


def swept(folder: Path, *overrides: str) -> None:
    """Runs the sweep, or what of it is left; its own report goes to standard error."""
    command = [sys.executable, "-m", "h2sim", "sweep", "study", "-o", str(folder), *overrides]
    subprocess.run(command, check=True, stdout=sys.stderr)


def loaded(folder: Path) -> tuple[pd.DataFrame, dict[str, dict[str, float]]]:
    """The valid machines of a sweep, and the base machine's results by trace."""
    plan, store = load_sweep(folder)
    with store:
        frame = frame_of(plan, store)
        base = {trace: tables["28nm"] for trace, tables in store.facts["base"].items()}
        points = store.counts()
    frame.attrs["points"] = points.get("ok", 0)
    frame.attrs["rows"] = len(frame)
    return frame[frame["status"] == "ok"].reset_index(drop=True), base


def best(frame: pd.DataFrame, column: str) -> pd.Series:
    """The machine with the least of a column; of equals the smaller one."""
    return frame.sort_values([column, "area_mm2", "id"], kind="stable").iloc[0]


def machine(row: pd.Series) -> str:
    """A machine in words: the arrays as rows x columns x parallelism."""
    array = {e: "x".join(f"{int(row[f'engines.{e}.{d}'])}" for d in ("rows", "columns", "parallelism"))
             for e in ("forward", "weight_update", "backward")}  # fmt: skip
    return (
        f"FE {array['forward']} LUT {row['forward_split']}, WUE {array['weight_update']} LUT {row['update_split']}, "
        f"BE {array['backward']}, tile {row['tile']}, buffers {row['buffers']}"
    )


def bandwidth(row: pd.Series) -> int:
    """Bytes per second of each memory."""
    value = row["memory.bandwidth_bytes_per_s"]
    return int(float(str(value).removesuffix(" GB/s")) * GB) if isinstance(value, str) else int(value)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, numbers at the right."""
    lines = [f"| {' | '.join(head)} |", "|" + "|".join(["---", *["---:"] * (len(head) - 1)]) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def gains(frame: pd.DataFrame, base: dict[str, dict[str, float]], names: list[str], speed: int) -> list[list[str]]:
    """For each trace, and for all together: the fastest machine at that bandwidth, and the least energy."""
    of_speed = frame[frame.apply(bandwidth, axis=1) == speed]
    rows = []
    for name in [*names, "all (geometric mean)"]:
        suffix = f"[{name}]" if len(names) > 1 and name in names else ""
        seconds, energy = f"seconds{suffix}", f"energy_j{suffix}"
        if name in names:
            was_s, was_j = base[name]["seconds"], base[name]["energy_j"]
        else:
            if len(names) == 1:
                continue
            was_s, was_j = (mean([base[n][what] for n in names]) for what in ("seconds", "energy_j"))
        fast, lean = best(of_speed, seconds), best(of_speed, energy)
        rows.append([name, f"{was_s / fast[seconds]:.2f}x", f"{was_j / fast[energy]:.2f}x", f"{fast['area_mm2']:.1f}",
                     machine(fast), f"{was_j / lean[energy]:.2f}x", f"{was_s / lean[seconds]:.2f}x"])  # fmt: skip
    return rows


def mean(values: list[float]) -> float:
    """The geometric mean."""
    return float(pd.Series(values).prod() ** (1 / len(values)))


def iid_against_real(frame: pd.DataFrame) -> str:
    """Whether the best machine for independent bits is the best for real masks of the same network."""
    fixed = frame[frame.apply(bandwidth, axis=1) == PUBLISHED]
    said = []
    for what, word in (("seconds", "fastest"), ("energy_j", "least energy")):
        iid, real = (f"{what}[{trace}]" for trace in PAIR)
        chosen, true = best(fixed, iid), best(fixed, real)
        lost = chosen[real] / true[real] - 1
        rank = int((fixed[real] < chosen[real]).sum()) + 1
        same = "is the same machine" if chosen["id"] == true["id"] else (
            f"is not the same machine: by real masks it is number {rank} of {len(fixed):,} and takes {lost:.1%} more "
            "than the best for them"
        )  # fmt: skip
        order = fixed[iid].rank().corr(fixed[real].rank())
        said.append(f"* {word}: the best for iid masks {same}. Order of all machines by both: Spearman {order:.4f}.")
        said.append(f"  * for iid masks: {machine(chosen)}")
        said.append(f"  * for real ones: {machine(true)}")
    return "\n".join(said)


def what_matters(frame: pd.DataFrame) -> str:
    """How much of the variance of time, energy and area each parameter explains."""
    columns = [c for c in frame.columns[1:] if c.partition(".")[0] in ("engines", "tile", "buffers", "memory")
               and not c.endswith(DERIVED)]  # fmt: skip
    columns += ["forward_split", "update_split"]
    found = {name: importance({c: frame[c].tolist() for c in columns}, frame[name].tolist())
             for name in ("seconds", "energy_j", "area_mm2")}  # fmt: skip
    shares = {name: {effect.parameter: effect.share for effect in each.effects} for name, each in found.items()}
    order = sorted(columns, key=lambda c: -shares["seconds"].get(c, 0.0))
    rows = []
    for column in order:
        short = column
        for long, word in WORDS.items():
            short = short.replace(long, word)
        rows.append([short, *(f"{shares[name].get(column, 0.0):.1%}" for name in shares)])
    return table(["parameter", "time", "energy", "area"], rows)


def main() -> None:
    """Runs both sweeps and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("study"))
    parser.add_argument("--budget", type=int, default=60000)
    parser.add_argument("--imagenet-budget", type=int, default=3000)
    given = parser.parse_args()
    swept(given.folder / "four", f"budget={given.budget}")
    swept(given.folder / "imagenet", IMAGENET, f"budget={given.imagenet_budget}")
    four, base = loaded(given.folder / "four")
    imagenet, big = loaded(given.folder / "imagenet")
    write(four, base, imagenet, big)


def write(
    four: pd.DataFrame,
    base: dict[str, dict[str, float]],
    imagenet: pd.DataFrame | None,
    big: dict[str, dict[str, float]],
    said: str = "",
) -> None:
    """Writes study.md and study.csv. imagenet: None where it was not run; said: a paragraph on how far the sweep is."""
    points = four.attrs["points"] + (imagenet.attrs["points"] if imagenet is not None else 0)
    of_imagenet = "ImageNet's network is left out so far"
    if imagenet is not None:
        tried = imagenet.attrs["rows"]
        of_imagenet = f"and {len(imagenet):,} of {tried:,} on ImageNet's network, whose buffers are sized for it"
    fastest = best(four[four.apply(bandwidth, axis=1) == PUBLISHED], "seconds")
    overall = mean([each["seconds"] for each in base.values()]) / fastest["seconds"]
    head = ["trace", "fastest: x faster", "x less energy", "mm2", "machine", "least energy: x less", "x faster"]
    text = f"""# A better H2Learn

At the published bandwidth and no more area than this model gives h2learn (36.95 mm2, table 28nm; not the printed 110
mm2), the best of {len(four):,} machines is {overall:.2f}x as fast as the published one over six traces (geometric
mean): {machine(fastest)}.

{points:,} points (a machine on a trace) were simulated exactly by `python reports/sweeps/study.py`: of
{four.attrs["rows"]:,} machines drawn at random from the space of `workloads/sweeps/study.yaml` the {len(four):,}
that are no larger than h2learn, on six traces each; {of_imagenet}. Better machines may exist between those that were
drawn.
{said}
`-iid` traces are SYNTHETIC: independent bits with table 3.2's sparsities. mnist-table34 and mnist-digits are real
training. Arrays are rows x columns x parallelism; `buffers fit`: twice what the dataflow of these traces needs, `0.5`
half of that, `keep` the file's.

"""
    names = list(base)
    for speed in (64 * GB, 128 * GB, 256 * GB):
        text += f"## Memories of {speed // GB} GB/s\n\n"
        of_big = gains(imagenet, big, list(big), speed) if imagenet is not None else []
        text += table(head, gains(four, base, names, speed) + of_big) + "\n\n"
        if speed != PUBLISHED:
            text += "Beside h2learn with its published 128 GB/s.\n\n"
    text += f"""## Independent bits against real masks

The network of mnist (table 3.4), at 128 GB/s, on {PAIR[0]} and {PAIR[1]}:

{iid_against_real(four)}

## What matters

Share of the variance over the {len(four):,} machines of the six traces that each parameter alone explains
(functional ANOVA, first order):

{what_matters(four)}

## Limits

* Prices and areas are those of `energy_tables/28nm.yaml`; h2learn's own tile, buffers and pipeline depths are assumed
  [A].
* Bandwidth costs no area here. Machines with more of it are no better machines at equal cost: compare within a section.
* A machine is drawn as a whole: within the budget no machine was tuned further.
* Machines at the border of the area are compared with h2learn to four digits of mm2.
"""
    (HERE / "study.md").write_text(text, encoding="utf-8")
    shown = [*four.columns[:25], "seconds", "energy_j", "area_mm2"]
    top = pd.concat([best(four, c).to_frame().T for c in four.columns if c.startswith(("seconds", "energy_j"))])
    top.loc[:, [c for c in dict.fromkeys(shown) if c in top]].drop_duplicates("id").to_csv(
        HERE / "study.csv", index=False
    )
    print(f"h2sim {h2sim.__version__}: {points:,} points; {HERE / 'study.md'}")


if __name__ == "__main__":
    main()

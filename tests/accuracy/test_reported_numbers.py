"""Numbers in the reports are those of the committed logs and tables; table 3.2's are those that the source prints."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from h2sim.arch import load_arch
from h2sim.energy import load_energy_table
from h2sim.facade import simulate
from h2sim.io import library
from h2sim.report.trace_compare import compared
from h2sim.rivals.loihi.run import run_loihi
from h2sim.rivals.loihi.schema import load_loihi, parse_loihi
from h2sim.rivals.registry import run_baseline
from h2sim.trace import Sparsity, like, load_network, load_trace, synthesise, write_trace
from tests.helpers.look import RESIDUAL

REPORTS = Path(__file__).parents[2] / "reports"
LOGS = REPORTS / "training"

# table 3.2 of the source, in percent: O (output sparsity: neurons outside the window), I (input sparsity: dm = 0)
TABLE_3_2 = {
    "mnist": ("22.66 85.99 52.74 74.74 53.82", "99.18 97.46 98.76 97.44 97.93"),
    "cifar10": ("54.06 83.22 80.22 82.75 87.24", "91.41 83.89 89.92 88.63 84.39"),
    "nmnist": ("59.89 86.13 92.95", "97.24 97.36 99.26"),
    "cifar10-dvs": ("62.93 88.23 82.07", "87.69 74.14 95.77"),
    "imagenet": ("17.97 16.21 14.65 19.82 16.65 15.09", "94.95 94.11 92.94 96.02 94.38 93.35"),
}

# rows of training.md's first table, from the top, and the run behind each
RUNS = ("small-ce", "small-fashion", "mnist-table34", "fc-mnist", "fc-fashion", "conv-mnist", "conv-fashion")
CHOICES = (
    "frozen-float32", "frozen-sum", "frozen-float16", "frozen-flush", "frozen-float16-1024", "frozen-flush-1024",
    "tuned-ce-current", "tuned-ce-rate", "tuned-mse-current", "tuned-mse-rate",
)  # fmt: skip


def table(path: Path, first: str) -> list[list[str]]:
    """The rows of the table of a markdown file whose heading row begins with `first`, without its two heading rows."""
    lines = iter(path.read_text().splitlines())
    for line in lines:
        if line.startswith(first):
            break
    else:
        raise AssertionError(f"{path}: no table {first!r}")
    next(lines)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in _while_table(lines)]


def _while_table(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if not line.startswith("|"):
            return
        yield line


def number(cell: str) -> Decimal:
    return Decimal(cell.replace(",", "").replace("%", "").strip())


def same(shown: str, exact: str) -> bool:
    """Whether a cell is another one's number: equal, or rounded from more digits (each off by half its last digit)."""
    given, wanted = number(shown), number(exact)
    places = [int(value.as_tuple().exponent) for value in (given, wanted)]
    if places[0] <= places[1]:
        return given == wanted
    return abs(given - wanted) <= sum(Decimal(5).scaleb(place - 1) for place in places)


def last_row(run: str) -> dict[str, str]:
    with (LOGS / f"{run}.csv").open(newline="") as file:
        return list(csv.DictReader(file))[-1]


def percent_of(row: dict[str, str]) -> str:
    return f"{float(row['accuracy']):.2%}"


def means(file: str) -> dict[str, dict[str, str]]:
    """By run (and epoch or twin): the numbers of a table that `trace compare` wrote."""
    path, found = LOGS / file, {}
    for cells in table(path, "| # | trace | network"):
        found[cells[1]] = {"out": cells[7], "in": cells[8], "silent": cells[9]}
    for cells in table(path, "| # | trace | Forward | x | Weight update"):
        found[cells[1]] |= {"be": cells[6], "x": cells[7], "steady": cells[8], "steady x": cells[9], "uj": cells[10]}
    return found


def run_of(label: str) -> str:
    return label.split("/")[0]


def test_a_rounded_number_is_told_from_another():
    assert same("98.9", "98.85%")
    assert same("140.1", "140.05")
    assert not same("99.42 %", "99.43%")
    assert not same("23,643", "23642")
    assert not same("5,122", "512")


def test_table_3_2_is_what_the_source_prints():
    data = yaml.safe_load(library.find("sparsity", "sparsity").read_text())["table-3.2"]
    percents = {
        network: tuple(" ".join(f"{100 * value:.2f}" for value in row[key]) for key in ("window", "grad"))
        for network, row in data.items()
    }
    assert percents == TABLE_3_2


def test_the_accuracies_of_the_report_are_the_last_rows_of_the_logs():
    rows = table(REPORTS / "training.md", "| network | data | trained on")
    assert len(rows) == len(RUNS)
    for run, cells in zip(RUNS, rows, strict=True):
        row = last_row(run)
        assert same(cells[3], percent_of(row)), run
        assert number(cells[4]) == int(row["test_samples"]), run
        assert cells[2].startswith(f"{row['epoch']} epochs"), run


def test_the_sparsities_beside_table_3_2_are_those_of_the_run():
    rows = {cells[0]: cells[1:] for cells in table(REPORTS / "training.md", "| MNIST, table 3.4's network |")}
    for name, printed in zip("OI", TABLE_3_2["mnist"], strict=True):
        assert all(same(*pair) for pair in zip(rows[f"{name}, table 3.2"], printed.split(), strict=True))
    layers = {cells[0]: cells[1:] for cells in table(LOGS / "twins-mnist.md", "| layer | #1 rate")}
    for i in range(5):
        assert same(rows["O, ours (97.20 %)"][i], layers[f"conv{i + 1}"][1])
        assert same(rows["I, ours"][i], layers[f"conv{i + 2}"][2])


def test_the_choices_of_the_report_are_those_of_the_table_and_the_logs():
    rows, found = table(REPORTS / "training.md", "| gradients | accuracy"), means("choices.md")
    assert [run_of(label) for label in found] == list(CHOICES)
    for run, cells, row in zip(CHOICES, rows, found.values(), strict=True):
        shown = dict(zip(("out", "in", "silent", "be", "x", "steady", "uj"), cells[2:], strict=True))
        assert same(cells[1], percent_of(last_row(run))), run
        assert shown.pop("silent") == row["silent"], run
        assert all(same(value, row[key]) for key, value in shown.items()), run


def test_float16_on_table_3_4s_network_is_as_its_table_says():
    rows = table(REPORTS / "training.md", "| table 3.4's MNIST network | I |")
    found = list(means("choices-table34.md").values())
    energies = [number(row["uj"]) for row in found]
    for i, (cells, row) in enumerate(zip(rows, found, strict=True)):
        shown = dict(zip(("in", "be", "x", "steady", "steady x", "uj"), cells[1:7], strict=True))
        assert all(same(value, row[key]) for key, value in shown.items()), cells[0]
        assert same(cells[7], f"{energies[i] / energies[0]:.4f}"), cells[0]


def test_the_epochs_of_the_report_are_those_of_the_table():
    rows = table(REPORTS / "training.md", "| | O | I | BE compute cycles | steady cycles")
    for cells, row in zip(rows, means("epochs.md").values(), strict=True):
        shown = zip(("out", "in", "be", "steady", "uj"), cells[1:], strict=True)
        assert all(same(value, row[key]) for key, value in shown), cells[0]
    with (LOGS / "small-ce.csv").open(newline="") as file:
        accuracies = [float(row["accuracy"]) for row in csv.DictReader(file)]
    for cells, accuracy in zip(rows, accuracies, strict=True):
        shown = cells[0].partition("(")[2].partition("%")[0]
        assert same(shown, f"{100 * accuracy:.2f}"), cells[0]


# rows of masks.md's table from the third on: the run whose twins they are
TWINS = ("mnist-table34", "small-ce", "small-fashion", "conv-mnist", "conv-fashion", "tuned-mse-rate")


def twin_ratios() -> dict[str, list[str]]:
    """By run: BE compute cycles, steady cycles and energy, each of the independent and the structured twin."""
    found: dict[str, list[list[str]]] = {}
    for file in ("twins-mnist.md", "twins-others.md"):
        for cells in table(LOGS / file, "| # | trace | twin of"):
            found.setdefault(run_of(cells[1]), []).append(cells[5:8])
    return {run: [twin[i] for i in range(3) for twin in twins] for run, twins in found.items()}


def mask_rows() -> list[list[str]]:
    return table(REPORTS / "masks.md", "| trace | BE compute cycles")[1:]  # behind the second heading


def test_the_twins_of_the_mask_report_are_those_of_the_tables():
    rows, found = mask_rows()[2:], twin_ratios()
    for run, cells in zip(TWINS, rows, strict=True):
        assert all(same(*pair) for pair in zip(cells[1:], found[run], strict=True)), run


@pytest.mark.parametrize(("row", "name"), [(0, "mnist-digits"), (1, str(RESIDUAL))])
def test_the_twins_of_the_bundled_traces_are_as_the_mask_report_says(tmp_path, row, name):
    real, arch = load_trace(name), load_arch("h2learn")
    numbers = [compared("real", real, simulate(arch, real)).numbers]
    for structure in (None, "measured"):
        write_trace(tmp_path / "t.npz", *like(real, 0, structure), compress=False)
        twin = load_trace(tmp_path / "t.npz")
        numbers.append(compared("twin", twin, simulate(arch, twin)).numbers)
    keys = ("backward_compute_cycles", "steady_cycles", "energy_per_sample_uj")
    ratios = [f"{numbers[twin][key] / numbers[0][key]:.6f}" for key in keys for twin in (1, 2)]
    assert all(same(*pair) for pair in zip(mask_rows()[row][1:], ratios, strict=True)), ratios


def test_independent_bits_flatter_the_backward_engine_as_often_and_as_much_as_the_report_says():
    text = " ".join((REPORTS / "masks.md").read_text().split())
    ratios = [float(cells[1]) for cells in mask_rows()]
    assert len(ratios) == 8
    assert all(ratio < 1 for ratio in ratios)
    assert "in all eight" in text
    assert f"by {100 - 100 * max(ratios):.0f} to {100 - 100 * min(ratios):.0f} %" in text
    off = sorted(abs(float(cells[2]) - 1) for cells in mask_rows())
    assert f"within {100 * off[-2]:.0f} % on seven of the eight, and within {100 * off[-1]:.0f} %" in text


# --- reports/systems.md: what the bundled trace gives ---------------------------------------------------------

SYSTEMS = (REPORTS / "systems.md").read_text()


def cells(first: str) -> list[str]:
    """The cells of the table row of systems.md that begins with `first`."""
    (line,) = [line for line in SYSTEMS.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in line.strip("| \n").split("|")]


def test_the_scaling_curve_of_the_digits_is_what_the_simulator_gives():
    chips = simulate(load_arch("h2learn"), load_trace("mnist-digits"), chips=16).chips
    for k in (2, 4, 8, 16):
        strong, weak = chips.strong.points[k - 1], chips.weak.points[k - 1]
        _, speedup, reduce, other, *_ = cells(str(k))
        assert (speedup, reduce) == (
            f"{strong.speedup:.2f}x",
            f"{100 * strong.all_reduce_cycles / strong.cycles:.1f} %",
        )
        assert other == f"{weak.speedup:.2f}x"


def test_loihi_and_the_estimate_on_the_digits_are_what_is_reported():
    trace, table = load_trace("mnist-digits"), load_energy_table("28nm")
    loihi = run_baseline("loihi", trace, table).measurement()
    assert (
        f"{loihi.seconds_per_sample * 1e3:.2f} ms and {loihi.energy_j_per_sample * 1e6:.0f} uJ a sample on 65"
        in SYSTEMS
    )
    fitted = run_baseline("loihi-sanafe", trace, table).measurement()
    assert f"{fitted.seconds_per_sample * 1e3:.2f} ms and {fitted.energy_j_per_sample * 1e6:.0f} uJ." in SYSTEMS
    step = simulate(load_arch("h2learn"), trace, table)
    assert f"the training step {step.cost.energy_j / trace.meta.batch * 1e6:.0f} uJ" in SYSTEMS.replace("\n", " ")


def test_loihis_time_by_compartments_is_what_is_reported(tmp_path):
    network = load_network("loihi", (1, 28, 28))
    masks = synthesise(network, network.timesteps, 1, Sparsity(0.9, 0.0, 0.0), 0, phases=("forward",))
    write_trace(tmp_path / "l.npz", *masks)
    trace, machine = load_trace(tmp_path / "l.npz"), load_loihi()
    wanted, sizes = cells("time, energy")[1:], cells("cores, chips")[1:]
    for compartments, shown, size in zip(cells("neurons a core")[1:], wanted, sizes, strict=True):
        data = machine.model_dump(mode="json")
        data["mapping"]["compartments_per_core"]["value"] = int(compartments)
        found = run_loihi(parse_loihi(data, "test"), trace)
        assert shown == f"{found.seconds_per_sample * 1e3:.2f} ms, {found.energy_j_per_sample * 1e6:.0f} uJ"
        assert size == f"{found.cores}, {found.chips}"

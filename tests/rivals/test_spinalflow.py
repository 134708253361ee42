"""SpinalFlow as a machine: its file, its jobs under h2sim's memory, its energy and area, its report."""

from __future__ import annotations

import math

import numpy as np
import pytest
import yaml

from h2sim.activity import BufferTraffic
from h2sim.document import to_text
from h2sim.energy import load_energy_table
from h2sim.errors import BaselineError, EnergyTableError
from h2sim.io import library
from h2sim.rivals.prices import by_component
from h2sim.rivals.spinalflow.cost import counts, price_book
from h2sim.rivals.spinalflow.engine import SpikeMap, SpineEvents, conv
from h2sim.rivals.spinalflow.jobs import layer_work
from h2sim.rivals.spinalflow.run import load_spinalflow, parse_spinalflow, run_spinalflow
from h2sim.trace import load_trace, write_trace
from h2sim.trace.graph import Graph
from tests.helpers.look import RESIDUAL
from tests.helpers.traces import parts, tiny_trace

MACHINE, TABLE = load_spinalflow(), load_energy_table("28nm")


def operations(**events):
    """Those of a row."""
    return {count.action: count.number for count in counts(SpineEvents(**events))}


def data():
    return yaml.safe_load(library.find("arch", "spinalflow").read_text())


def changed(**fields):
    """The shipped machine with fields, dotted names written with __, set to other values."""
    found = data()
    for name, value in fields.items():
        *parents, last = name.split("__")
        place = found
        for part in parents:
            place = place[part]
        place[last] = value
    return parse_spinalflow(found, "changed.yaml")


def dense_trace(folder, notation, shape, **kwargs):
    """A trace in which every neuron of every layer fires at every timestep, the input too."""
    meta, members = parts(notation, shape, **kwargs)
    ones = {k: _ones(m, meta, k) if k.endswith(".spikes") else m for k, m in members.items()}
    write_trace(folder / "dense.npz", meta, ones)
    return load_trace(folder / "dense.npz")


def _ones(packed, meta, member):
    name = member.removesuffix(".spikes")
    if name == "input":
        neurons = math.prod(meta["layers"][0]["in_shape"])
    else:
        layer = next(entry for entry in meta["layers"] if entry["name"] == name)
        neurons = layer["out_features"] if layer["kind"] == "fc" else math.prod(layer["out_shape"])
    bits = np.ones((*packed.shape[:2], neurons), np.uint8)
    return np.packbits(bits, axis=-1)


def test_the_shipped_machine_has_the_published_sizes():
    kb = sum(b.bytes for b in (MACHINE.buffers.filter, MACHINE.buffers.input, MACHINE.buffers.output)) / 1024
    assert (MACHINE.array.pes, MACHINE.filter_rows, kb, MACHINE.clock_hz) == (128, 4608, 585, 200_000_000)
    assert MACHINE.published.power_w == pytest.approx(0.1622, abs=5e-5)
    assert MACHINE.published.throughput_gops / MACHINE.published.area_mm2 == pytest.approx(327.5, abs=0.1)


@pytest.mark.parametrize("name", ["potential_add", "threshold_compare", "time_compare"])
def test_prices_follow_from_the_formulas_in_their_method(name):
    unit = getattr(MACHINE.units, name)
    for field, value in (("energy", unit.energy_pj), ("area", unit.area_um2), ("leakage", unit.leakage_uw)):
        formula = unit.method.split(f"{field} ")[1].split(";")[0].split(" [A]")[0].split(". scaled")[0]
        factors = [eval_factor(f.strip()) for f in formula.split(" * ")]
        assert math.prod(factors) == pytest.approx(value, rel=1e-5)


def eval_factor(text):
    """A number, or the (a / b)**2 of a change of voltage."""
    if "/" not in text:
        return float(text)
    above, below = text.removesuffix("**2").strip("()").split("/")
    return (float(above) / float(below)) ** 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"array__pes": 0}, r"changed.yaml: array.pes: expected greater than or equal to 1; got 0"),
        ({"coding": "rate"}, r"changed.yaml: coding: expected 'first_spike' or 'every_spike'; got 'rate'"),
        ({"array__peas": 3}, r"changed.yaml: array.peas: unknown field; did you mean 'pes'\?"),
        ({"array__output_drain": "none"}, r"array.output_drain: expected 'overlapped' or 'exposed'; got 'none'"),
        ({"clock_hz": 2.5}, r"clock_hz: expected a valid integer; got 2.5"),
        ({"buffers__filter": {"bytes": 64, "word_bits": 64, "banks": 1}}, r"must hold one row of 128 bytes; got 64"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected(fields, message):
    with pytest.raises(BaselineError, match=message):
        changed(**fields)


def test_a_missing_file_is_said_with_what_is_shipped():
    with pytest.raises(BaselineError, match=r"nowhere: no such arch file; shipped arch files: .*spinalflow"):
        load_spinalflow("nowhere")


def test_an_unknown_coding_is_refused():
    with pytest.raises(BaselineError, match=r"SpinalFlow: coding: expected first_spike or every_spike; got 'rate'"):
        MACHINE.with_coding("rate")


def test_prices_of_another_node_are_refused():
    with pytest.raises(BaselineError, match=r"energy table 45nm: node_nm: expected a table of 28 nm, as .*; got 45"):
        price_book(MACHINE, load_energy_table("45nm"))


def test_a_buffer_that_no_macro_holds_is_refused():
    machine = changed(buffers__filter={"bytes": 1 << 30, "word_bits": 1024, "banks": 1})
    with pytest.raises(EnergyTableError, match=r"for a bank of buffer SpinalFlow.filter"):
        price_book(machine, TABLE)


def test_a_dense_layer_takes_one_cycle_per_synapse_row_and_position(tmp_path):
    trace = dense_trace(tmp_path, "4C1-10FC", (2, 3, 3), timesteps=3, batch=2)
    first = run_spinalflow(MACHINE, trace, TABLE, ideal_memory=True).rows[0]
    every = run_spinalflow(MACHINE, trace, TABLE, coding="every_spike", ideal_memory=True).rows[0]
    # 2 samples x 9 positions; 2 channels, each once (x 3 steps with every spike), and a cycle to change over;
    # but 4 output spikes (12) of the position before take longer to leave, in all positions but the first
    assert first.cycles.compute == (2 + 1) + 17 * 4
    assert every.cycles.compute == (6 + 1) + 17 * 12
    assert (first.cycles.fill, every.cycles.fill) == (4 + 4, 4 + 12)
    # all fire at step 0: in it both weights are added; with every spike in each step
    assert first.operations == operations(
        sorted_spikes=36, comparisons=36 * 15, filter_rows=36, updates=36 * 4, output_spikes=72, potentials_moved=0
    )
    assert every.operations == operations(
        sorted_spikes=108, comparisons=108 * 15, filter_rows=108, updates=108 * 4, output_spikes=216, potentials_moved=0
    )
    assert first.cycles.stalls.total == 0


def test_bytes_are_weights_once_spines_once_per_output_row_and_output_spikes(tmp_path):
    trace = dense_trace(tmp_path, "4C3-10FC", (2, 3, 3), timesteps=3, batch=2)
    conv1, fc1 = run_spinalflow(MACHINE, trace, TABLE).rows
    # padding 1: output rows read 2, 3 and 2 input rows of 3 positions x 2 channels, 2 bytes a spike, 2 samples
    assert conv1.offchip_read_bytes == 4 * 2 * 9 + 2 * (2 + 3 + 2) * 3 * 2 * 2
    assert conv1.offchip_write_bytes == 2 * 9 * 4 * 2
    assert fc1.offchip_read_bytes == 36 * 10 + 2 * 36 * 2
    assert fc1.offchip_write_bytes == 2 * 10 * (2 if trace.meta.layers[-1].spiking else MACHINE.potential_bytes)


def test_spines_that_do_not_stay_are_loaded_for_every_position(tmp_path):
    trace = dense_trace(tmp_path, "4C3-10FC", (2, 3, 3), timesteps=3, batch=2)
    few = changed(array__spine_buffers=8)  # fewer than the 9 positions of a 3x3 window
    row = run_spinalflow(few, trace, TABLE).rows[0]
    assert row.offchip_read_bytes == 4 * 2 * 9 + row.operations["sorted_spikes"] * 2


def test_partial_sums_of_a_field_larger_than_the_filter_buffer_go_to_memory_and_back(tmp_path):
    trace = dense_trace(tmp_path, "4C1-10FC", (2, 3, 3), timesteps=3, batch=2)
    small = changed(buffers__filter={"bytes": 128 * 20, "word_bits": 1024, "banks": 1})  # 20 rows of 36
    whole, cut = (run_spinalflow(m, trace, TABLE).rows[1] for m in (MACHINE, small))
    spilled = 2 * 3 * 10 * 2  # samples, timesteps, channels, bytes
    assert cut.offchip_write_bytes - whole.offchip_write_bytes == spilled
    assert cut.offchip_read_bytes - whole.offchip_read_bytes == spilled
    assert cut.operations["potentials_moved"] - whole.operations["potentials_moved"] == 2 * spilled // 2


def test_weights_of_a_pass_arrive_after_the_pass_before(tmp_path):
    trace = dense_trace(tmp_path, "200C1-10FC", (2, 2, 2), timesteps=1, batch=1)
    slow = changed(memory={"bandwidth_bytes_per_s": 200_000_000, "first_access_cycles": 0})  # a byte per cycle
    row = run_spinalflow(slow, trace, TABLE).rows[0]
    # passes of 128 and 72 channels, 2 rows each: 256 B, then 144 B of weights, which nothing hides
    assert row.cycles.stalls.memory_read >= 256 + 144


def test_weights_wait_until_the_array_has_done_with_those_before_them(tmp_path):
    trace = dense_trace(tmp_path, "200C1-10FC", (2, 4, 4), timesteps=1, batch=1)
    slow = changed(
        memory={"bandwidth_bytes_per_s": 8 * 200_000_000, "first_access_cycles": 0}, array__output_drain="exposed"
    )  # 8 bytes a cycle
    row = run_spinalflow(slow, trace, TABLE, coding="every_spike").rows[0]
    # 256 B of weights and half of the first row's 16 B of spines; then 144 B of the second pass, whose first spines
    # wait their turn behind 512 B of results
    assert row.cycles.stalls.memory_read == 256 / 8 + 8 / 8 + 144 / 8 + 512 / 8 + 8 / 8


def job_of(machine, trace, name):
    work = layer_work(machine, trace, Graph(trace.meta, trace.analog_steps), trace.meta.layer(name))
    return work, {moved.buffer: moved for moved in work.job.traffic.buffers}


def test_partial_sums_leave_all_segments_but_the_last_and_enter_all_but_the_first(tmp_path):
    trace = dense_trace(tmp_path, "4C1-10FC", (2, 3, 3), timesteps=3, batch=2)
    small = changed(buffers__filter={"bytes": 128 * 15, "word_bits": 1024, "banks": 1})  # 36 rows in 15, 15 and 6
    work, moved = job_of(small, trace, "fc1")
    reads, writes = (bytes_[0, :, 2:] for bytes_ in (work.job.traffic.reads, work.job.traffic.writes))
    sums, spikes = 3 * 10 * 2, [2 * 15, 2 * 15, 2 * 6]  # of a sample: T x channels x 2 B; spines of a segment
    assert writes.tolist() == [[sums, sums], [sums, sums], [10 * 2, 10 * 2]]
    assert reads.tolist() == [[spikes[0]] * 2, [spikes[1] + sums] * 2, [spikes[2] + sums] * 2]
    assert (moved["output"].read_bytes, moved["output"].write_bytes) == (4 * sums + 40 + 4 * sums,) * 2
    assert moved["filter"].write_bytes == 36 * 128


def test_a_groups_weights_are_written_to_the_filter_buffer_once(tmp_path):
    _, moved = job_of(MACHINE, dense_trace(tmp_path, "200C1-10FC", (2, 3, 3)), "conv1")
    assert moved["filter"].write_bytes == 2 * 2 * 128  # groups x rows x bytes of a row, full or not


def test_output_spikes_take_a_spikes_bytes_not_a_potentials(tmp_path):
    trace = dense_trace(tmp_path, "4C1-10FC", (2, 3, 3), timesteps=3, batch=2)
    rows = run_spinalflow(changed(spike_bytes=3, potential_bytes=4), trace, TABLE).rows
    assert rows[0].offchip_write_bytes == 2 * 9 * 4 * 3


def test_iterations_are_cut_where_results_exceed_half_the_output_buffer(tmp_path):
    # 8 output rows of 8 positions x 200 channels (128, then 72), one spike each: 2 B x 8 x 128 = 2,048 B a row
    trace = dense_trace(tmp_path, "200C1-10FC", (1, 8, 8), timesteps=1, batch=1)
    small = changed(buffers__output={"bytes": 1024, "word_bits": 64, "banks": 1})
    pieces = job_of(small, trace, "conv1")[0].job.traffic.pieces[:, 0, 2:]
    assert pieces.tolist() == [[4] * 8, [3] * 8]  # 2,048 B and 1,152 B in halves of 512 B
    large = changed(buffers__output={"bytes": 4096, "word_bits": 64, "banks": 1})
    assert (job_of(large, trace, "conv1")[0].job.traffic.pieces == 1).all()


@pytest.mark.parametrize(("timesteps", "stay"), [(4, True), (5, False)])
def test_spines_stay_where_each_buffer_holds_the_fullest_over_all_timesteps(tmp_path, timesteps, stay):
    # every spike: a position's spine holds 2 channels x T spikes of 2 B; 16 spine buffers share 256 B: 16 B each
    trace = dense_trace(tmp_path, "4C3-10FC", (2, 4, 4), timesteps=timesteps, batch=1)
    small = changed(coding="every_spike", buffers__input={"bytes": 256, "word_bits": 64, "banks": 1})
    work, _ = job_of(small, trace, "conv1")
    once = [2 * 4, 3 * 4, 3 * 4, 2 * 4]  # input positions that an output row sees
    again = [2 * (2 + 3 + 3 + 2), 3 * 10, 3 * 10, 2 * 10]  # the same, for each of the row's positions
    spikes = once if stay else again
    assert work.job.traffic.reads[0, 0, 2:].tolist() == [2 * 2 * timesteps * n for n in spikes]


def test_a_sum_of_currents_is_refused_by_name():
    result = run_spinalflow(MACHINE, load_trace(RESIDUAL), TABLE)
    adds = {layer.name for layer in result.meta.layers if layer.kind == "add"}
    assert adds
    told = {name for name, why in result.left_out if why == "a sum of currents: the machine has no place for it"}
    assert told == adds


def test_offchip_energy_is_the_bits_that_moved(tmp_path):
    result = run_spinalflow(MACHINE, load_trace(tiny_trace(tmp_path)), TABLE)
    moved = sum(row.offchip_read_bytes + row.offchip_write_bytes for row in result.rows)
    assert result.offchip_energy_j == pytest.approx(1e-12 * 8 * moved * TABLE.offchip.energy_pj_per_bit)
    assert all(value >= 0 for row in result.rows for value in row.energy_pj.values())


def test_a_wider_potential_takes_more_registers(tmp_path):
    trace = dense_trace(tmp_path, "4C1-10FC", (2, 3, 3))
    register = TABLE.actions.register_access
    for machine, words in ((changed(potential_bytes=1), 1), (MACHINE, 1), (changed(potential_bytes=3), 2)):
        row, prices = run_spinalflow(machine, trace, TABLE).rows[-1], price_book(machine, TABLE)
        e, units = SpineEvents(**row.operations), machine.units
        update = units.potential_add.energy_pj + units.threshold_compare.energy_pj + 2 * words * register.energy_pj
        latched = e.filter_rows * 64 + e.potentials_moved * words
        assert row.energy_pj["pes"] == pytest.approx(e.updates * update + latched * register.energy_pj)
        pe = units.potential_add.area_um2 + units.threshold_compare.area_um2 + (words + 1) * register.area_um2
        assert prices.area_um2["pes"] == pytest.approx(128 * pe)


def test_potentials_that_move_pass_a_register():
    still = tuple(BufferTraffic(name, 0, 0) for name in ("filter", "input", "output"))
    book = price_book(MACHINE, TABLE)
    found = by_component(book.charges(0, "array", counts(SpineEvents(potentials_moved=7)), still), book.components)
    assert found.pop("pes") == pytest.approx(7 * TABLE.actions.register_access.energy_pj)
    assert set(found.values()) == {0}


def test_leakage_and_area_are_those_of_every_unit_and_macro():
    prices, units, register = price_book(MACHINE, TABLE), MACHINE.units, TABLE.actions.register_access
    array = MACHINE.array
    heads = array.spine_buffers + array.merge_fifos
    compares = array.spine_buffers - 1 + array.merge_fifos - 1
    pe = units.potential_add.leakage_uw + units.threshold_compare.leakage_uw + 2 * register.leakage_uw
    sorter = compares * units.time_compare.leakage_uw + heads * register.leakage_uw
    macros = sum(price.leakage_w for price in prices.buffers.values())
    assert macros > 0
    assert prices.leakage_w == pytest.approx(1e-6 * (128 * pe + sorter) + macros)
    assert prices.area_um2["sorter"] == pytest.approx(
        compares * units.time_compare.area_um2 + heads * register.area_um2
    )


@pytest.mark.parametrize(
    ("unit", "how_many"), [("potential_add", 128), ("threshold_compare", 128), ("time_compare", 18)]
)
def test_every_unit_leaks_and_takes_its_place(unit, how_many):
    before = price_book(MACHINE, TABLE)
    price = getattr(MACHINE.units, unit)
    more = {f"units__{unit}__leakage_uw": price.leakage_uw + 1, f"units__{unit}__area_um2": price.area_um2 + 1}
    after = price_book(changed(**more), TABLE)
    assert after.leakage_w - before.leakage_w == pytest.approx(how_many * 1e-6)
    assert sum(after.area_um2.values()) - sum(before.area_um2.values()) == pytest.approx(how_many)


def test_more_bandwidth_never_adds_cycles(tmp_path):
    trace, found = load_trace(tiny_trace(tmp_path)), []
    for bandwidth in (10**8, 10**9, 10**10, 10**12):
        machine = changed(memory={"bandwidth_bytes_per_s": bandwidth, "first_access_cycles": 0})
        found.append(run_spinalflow(machine, trace, TABLE).makespan_cycles)
    assert found == sorted(found, reverse=True)
    assert found[-1] >= run_spinalflow(MACHINE, trace, TABLE, ideal_memory=True).makespan_cycles


def test_time_and_energy_add_up(tmp_path):
    result = run_spinalflow(MACHINE, load_trace(tiny_trace(tmp_path)), TABLE)
    for row in result.rows:
        assert row.cycles.total == row.cycles.compute + row.cycles.fill + row.cycles.stalls.total
    assert sum(row.cycles.total for row in result.rows) <= result.makespan_cycles
    leakage = 1e-12 * (sum(row.energy_pj["leakage"] for row in result.rows) + result.idle_leakage_pj)
    assert leakage == pytest.approx(result.leakage_w * result.seconds)
    dynamic = 1e-12 * sum(sum(row.energy_pj.values()) - row.energy_pj["leakage"] for row in result.rows)
    assert result.energy_j == pytest.approx(dynamic + leakage)
    assert result.published["energy_j"] == pytest.approx(0.6845 / 4.22 * result.seconds)


def test_energy_is_the_sum_of_counts_times_prices(tmp_path):
    row = run_spinalflow(MACHINE, dense_trace(tmp_path, "4C1-10FC", (2, 3, 3)), TABLE).rows[0]
    prices, e = price_book(MACHINE, TABLE), SpineEvents(**row.operations)
    register = TABLE.actions.register_access.energy_pj
    update = 2 * 0.0515604 + 2 * register
    assert row.energy_pj["pes"] == pytest.approx(e.updates * update + e.filter_rows * 64 * register)
    assert row.energy_pj["sorter"] == pytest.approx(e.comparisons * 0.02267 + 2 * e.sorted_spikes * register)
    macro = next(m for m in TABLE.sram.macros if (m.bytes, m.word_bits) == (65536, 1024))
    written = 2  # rows of 128 bytes, one per input channel
    assert row.energy_pj["filter_buffer"] == pytest.approx(e.filter_rows * macro.read_pj + written * macro.write_pj)
    assert prices.area_um2["filter_buffer"] == pytest.approx(9 * macro.area_um2)


def test_a_machine_of_more_pes_takes_fewer_passes_and_more_area(tmp_path):
    trace = dense_trace(tmp_path, "200C1-10FC", (2, 3, 3))
    wide = changed(array__pes=256)
    narrow_run, wide_run = (run_spinalflow(m, trace, TABLE) for m in (MACHINE, wide))
    assert wide_run.rows[0].operations["sorted_spikes"] * 2 == narrow_run.rows[0].operations["sorted_spikes"]
    assert wide_run.area_um2["pes"] == pytest.approx(2 * narrow_run.area_um2["pes"])


def test_every_spike_is_never_faster_than_first_spikes(tmp_path):
    trace = load_trace(tiny_trace(tmp_path, timesteps=6))
    first, every = (run_spinalflow(MACHINE, trace, TABLE, coding=c) for c in ("first_spike", "every_spike"))
    assert every.makespan_cycles > first.makespan_cycles
    assert "every_spike" in every.measurement().system


def test_an_encoding_layer_is_listed_and_has_no_time(tmp_path):
    meta, members = parts("4C3(Encoding)-AP2-6C3-10FC", (2, 8, 8))
    write_trace(tmp_path / "analog.npz", meta, members)
    result = run_spinalflow(MACHINE, load_trace(tmp_path / "analog.npz"), TABLE)
    assert result.left_out == (("conv1", "analog input: the machine takes spikes only"),)
    found = result.measurement()
    assert found.part("conv1", "forward") is None
    assert [p.layer for p in found.parts] == ["pool1", "conv2", "fc1"]
    assert found.phases == ("forward",)
    assert any("conv1: analog input" in line for line in found.assumptions)
    assert found.seconds == result.seconds


def test_currents_between_layers_are_refused(tmp_path):
    meta, members = parts()
    meta["layers"][0]["spiking"] = False
    kept = {k: m for k, m in members.items() if k not in ("conv1.spikes", "conv1.window")}
    write_trace(tmp_path / "current.npz", meta, kept)
    result = run_spinalflow(MACHINE, load_trace(tmp_path / "current.npz"), TABLE)
    assert dict(result.left_out) == {
        "conv1": "its output is a current, not spikes",
        "pool1": "its input is a current, not spikes",
    }


def test_a_network_without_any_layer_of_spikes_is_refused(tmp_path):
    meta, members = parts("4C3(Encoding)", (2, 8, 8))
    write_trace(tmp_path / "none.npz", meta, members)
    with pytest.raises(
        BaselineError, match=r"none.npz: layers: expected a layer of spikes in and .*; got conv1: analog"
    ):
        run_spinalflow(MACHINE, load_trace(tmp_path / "none.npz"), TABLE)


def test_published_figures_replace_energy_and_area_alone(tmp_path):
    result = run_spinalflow(MACHINE, load_trace(tiny_trace(tmp_path)), TABLE)
    ours, theirs = result.measurement(), result.as_published()
    assert (theirs.area_mm2, theirs.energy_j) == (2.09, result.published["energy_j"])
    assert (theirs.seconds, theirs.samples) == (ours.seconds, ours.samples)
    assert ours.area_mm2 == pytest.approx(sum(result.area_um2.values()) * 1e-6)


def test_the_bundled_trace_counts_as_its_spikes_do():
    trace = load_trace("mnist-digits")
    row = next(r for r in run_spinalflow(MACHINE, trace, TABLE).rows if r.layer == "conv2")
    shape = trace.meta.conv_shape(trace.meta.layer("conv2"))
    maps = [SpikeMap(trace.mask(name, "spikes"), trace.meta.layer(name).out_chw, True) for name in ("pool1", "conv2")]
    work = conv(MACHINE.spines, shape, *maps)
    assert row.cycles.compute == work.iteration_cycles.sum()
    bits = np.unpackbits(trace.mask("pool1", "spikes"), axis=-1, count=32 * 14 * 14).any(axis=0).reshape(4, 32, 14, 14)
    reach = np.ones(14) * 3
    reach[[0, -1]] = 2  # windows that see a border position
    assert row.operations["sorted_spikes"] == (bits.sum(axis=1) * reach[:, None] * reach[None, :]).sum()


def test_the_report_shows_every_layer_and_both_figures(tmp_path):
    meta, members = parts("4C3(Encoding)-AP2-6C3-10FC", (2, 8, 8))
    write_trace(tmp_path / "analog.npz", meta, members)
    result = run_spinalflow(MACHINE, load_trace(tmp_path / "analog.npz"), TABLE)
    shown = to_text(result.document())
    assert all(layer.name in shown for layer in result.meta.layers)
    assert "not supported" in shown
    assert "2.090 mm2" in shown
    assert f"{sum(result.area_um2.values()) * 1e-6:.3f} mm2" in shown
    assert "162.2 mW" in shown
    assert "modelled from secondary figures" in shown


def test_the_same_trace_gives_the_same_result_twice(tmp_path):
    trace = load_trace(tiny_trace(tmp_path))
    assert run_spinalflow(MACHINE, trace, TABLE).rows == run_spinalflow(MACHINE, trace, TABLE).rows

"""Energy: the shipped numbers follow from their bases, the bill adds up, a wrong table is refused in words."""

from __future__ import annotations

import ast
import copy
import math
import operator
import re
from dataclasses import replace
from itertools import pairwise

import pytest
import yaml

from h2sim.activity import ACTION_NAMES, ENGINES, Actions, Activity, BufferTraffic, LayerActivity, Stalls
from h2sim.arch import load_arch
from h2sim.arch.schema import Arch, Buffer
from h2sim.energy import area, load_energy_table, parse_energy_table, price, slow_buffers
from h2sim.energy.area import unit_um2
from h2sim.energy.sram import price_buffer
from h2sim.errors import EnergyTableError
from h2sim.io import library

NAMES = ["28nm", "45nm"]
T28, T45 = (load_energy_table(name) for name in NAMES)
GLB = {"bytes": 65536, "word_bits": 256, "banks": 4}


def machine(**changes) -> Arch:
    """The source's arrays with small buffers; changes are `engine__field=value`."""
    engines = {
        "forward": {"rows": 64, "columns": 16, "parallelism": 4, "sub_luts": 3, "sub_lut_size": 8},
        "weight_update": {"rows": 10, "columns": 128, "parallelism": 4, "sub_luts": 2, "sub_lut_size": 16},
        "backward": {"rows": 16, "columns": 64, "parallelism": 4},
    }
    names = {
        "forward": ["spikes", "weights", "psum", "output"],
        "weight_update": ["gradients", "spikes", "weight_gradients"],
        "backward": ["gradients", "weights", "psum", "state", "output"],
    }
    for engine, fields in engines.items():
        fields["buffers"] = {name: dict(GLB) for name in names[engine]}
    for key, value in changes.items():
        engine, field = key.split("__")
        engines[engine][field] = value
    latency = dict.fromkeys(["lut_read", "fp16_add", "fp16_multiply", "finder", "soma", "grad"], 2)
    return Arch.model_validate(
        {
            "name": "hand-made", "clock_hz": 800_000_000, "tile": {"height": 8, "width": 8}, "engines": engines,
            "memory": {"bandwidth_bytes_per_s": 128 * 10**9}, "latency": latency,
            "pipeline": {"sub_batches_per_batch": 1},
        }
    )  # fmt: skip


def row(engine, start, end, pe_array, acc, neuron, traffic, offchip=(0, 0)):
    return LayerActivity(
        layer="conv",
        phase=engine,
        engine=engine,
        start_cycle=start,
        end_cycle=end,
        compute_cycles=end - start,
        fill_cycles=0,
        stalls=Stalls(),
        pe_array=pe_array,
        acc=acc,
        neuron=neuron,
        buffers=traffic,
        offchip_read_bytes=offchip[0],
        offchip_write_bytes=offchip[1],
        useful_operations=1,
        peak_operations=1,
    )


ROWS = (
    row("forward", 0, 400, Actions(lut_read=1000, lut_write=80, fp16_add=700), Actions(fp16_add=300),
        Actions(soma_element=64), (BufferTraffic("psum", 4096, 2048), BufferTraffic("spikes", 100, 7)), (640, 320)),
    row("forward", 400, 500, Actions(lut_read=11, fp16_add=13), Actions(), Actions(), ()),
    row("weight_update", 10, 900, Actions(lut_read=5000, lut_write=160, fp16_add=2500), Actions(fp16_add=999),
        Actions(), (BufferTraffic("weight_gradients", 333, 444),), (0, 7)),
    row("backward", 0, 777, Actions(fp16_add=90, fp16_multiply=90, register_access=360, priority_encode=100),
        Actions(fp16_add=50), Actions(grad_element=32), (BufferTraffic("state", 12, 0),)),
)  # fmt: skip
STEP = Activity(
    layers=ROWS,
    memory=(),
    first_cycles=1500,
    steady_cycles=1000,
    batch_cycles=1000,
    update_cycles=0,
    sub_batches=1,
    samples=4,
)


def plain(table) -> dict:
    """A table as plain data that can be spoiled."""
    return table.model_dump(mode="json")


def spoiled(table, *path, value=None):
    data = plain(table)
    inner = data
    for part in path[:-1]:
        inner = inner[part]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return data


# --- the shipped numbers ---------------------------------------------------------------------------------------------

OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


def computed(text: str) -> float:
    """The value of a formula of numbers, + - * / ** and brackets."""

    def value(node):
        if isinstance(node, ast.BinOp):
            return OPERATORS[type(node.op)](value(node.left), value(node.right))
        assert isinstance(node, ast.Constant), text
        return node.value

    return value(ast.parse(text, mode="eval").body)


def formulas(method: str) -> dict[str, float]:
    """`energy 0.4 * 0.52; area 1360 * 0.387 [A]. words` -> {energy: 0.208, area: 526.32}."""
    clauses = re.split(r"\. (?=[a-z])", method)[0].replace("[A]", "").split(";")
    return {name: computed(formula) for name, formula in (clause.split(maxsplit=1) for clause in clauses)}


@pytest.mark.parametrize("table", [T28, T45], ids=NAMES)
@pytest.mark.parametrize("action", [name for name in ACTION_NAMES if not name.startswith("lut")])
def test_an_action_costs_what_its_stated_formula_gives(table, action):
    entry = getattr(table.actions, action)
    told = formulas(entry.method)
    assert told.keys() == {"energy", "area", "leakage"}
    assert entry.energy_pj == pytest.approx(told["energy"], rel=1e-5)
    assert entry.area_um2 == pytest.approx(told["area"], rel=1e-5)
    assert entry.leakage_uw == pytest.approx(told["leakage"], rel=1e-5)


@pytest.mark.parametrize("table", [T28, T45], ids=NAMES)
@pytest.mark.parametrize("index", range(3))
def test_a_lut_costs_what_its_stated_formula_gives(table, index):
    lut = table.luts[index]
    told = formulas(lut.method)
    assert told.keys() == {"read", "write", "area_1_port", "area_4_ports", "leakage"}
    shipped = (lut.read_pj, lut.write_pj, lut.area_1_port_um2, lut.area_4_ports_um2, lut.leakage_uw)
    assert shipped == pytest.approx(tuple(told.values()), rel=1e-5)


def test_logic_at_28_nm_is_that_of_45_nm_by_the_published_factors():
    for name in type(T28.actions).model_fields:
        at28, at45 = getattr(T28.actions, name), getattr(T45.actions, name)
        assert at28.energy_pj == pytest.approx(at45.energy_pj * 0.52, rel=1e-5)
        assert at28.area_um2 == pytest.approx(at45.area_um2 * 0.387, rel=1e-5)
        assert at28.leakage_uw == pytest.approx(at45.leakage_uw * 0.414, rel=1e-5)
    for at28, at45 in zip(T28.luts, T45.luts, strict=True):
        assert at28.read_pj == pytest.approx(at45.read_pj * 0.52, rel=1e-5)
        assert at28.area_4_ports_um2 == pytest.approx(at45.area_4_ports_um2 * 0.387, rel=1e-5)


def test_the_published_bases_are_those_of_the_sources():
    """Horowitz, ISSCC 2014, fig. 1.1.9 (FP16) and O'Connor, MICRO 2017 (HBM2)."""
    assert (T45.actions.fp16_add.energy_pj, T45.actions.fp16_multiply.energy_pj) == (0.4, 1.1)
    assert {T28.offchip.energy_pj_per_bit, T45.offchip.energy_pj_per_bit} == {3.97}


@pytest.mark.parametrize(
    ("table", "bytes_", "word_bits", "expected"),
    [
        (T28, 8192, 64, (2.29709, 2.65744, 1.352165, 0.158931)),
        (T28, 32768, 256, (9.92862, 17.7696, 4.911675, 0.290769)),
        (T28, 1048576, 2048, (418.542, 748.774, 135.1384, 1.85621)),
        (T45, 131072, 16, (13.5611, 9.60369, 69.62097, 0.364954)),
    ],
)
def test_sram_macros_are_what_cacti_printed(table, bytes_, word_bits, expected):
    """CACTI 7.0 (HewlettPackard/cacti@1ffd8df): read and write pJ, leakage mW, cycle ns."""
    macro = next(m for m in table.sram.macros if (m.bytes, m.word_bits) == (bytes_, word_bits))
    assert (macro.read_pj, macro.write_pj, macro.leakage_mw, macro.cycle_ns) == expected


@pytest.mark.parametrize("table", [T28, T45], ids=NAMES)
def test_macros_cover_1_kb_to_4_mb_of_every_width_that_cacti_can_make(table):
    held = {(m.bytes, m.word_bits) for m in table.sram.macros}
    smallest = {16: 1, 32: 1, 64: 1, 128: 1, 256: 1, 512: 2, 1024: 4, 2048: 8}  # KB
    for word_bits, low in smallest.items():
        assert {(kb << 10, word_bits) for kb in (2**i for i in range(13)) if kb >= low} <= held


def test_45_nm_is_dearer_than_28_nm_in_everything():
    a28, a45 = area(machine(), T28), area(machine(), T45)
    for small, large in zip(a28.blocks, a45.blocks, strict=True):
        assert small.area_um2 < large.area_um2
        assert small.leakage_w < large.leakage_w
    for entries in (2, 4, 8, 16, 32, 64, 256):
        assert T28.lut_read_pj(entries) < T45.lut_read_pj(entries)
    for small, large in zip(T28.sram.macros, T45.sram.macros, strict=True):
        assert small[:2] == large[:2]
        assert all(x < y for x, y in zip(small[2:6], large[2:6], strict=True))
    assert price(STEP, machine(), T28).energy_j < price(STEP, machine(), T45).energy_j


@pytest.mark.parametrize("name", library.names("energy table"))
def test_no_entry_points_to_a_place_that_only_we_can_read(name):
    text = library.find("energy table", name).read_text()
    assert not re.search(r"stored file|\.csv|\bid \d", text)
    assert load_energy_table(name).name == name


# --- interpolation ---------------------------------------------------------------------------------------------------


def test_a_lut_between_measured_sizes_lies_on_the_line_in_logarithms():
    (a, b) = T28.luts[1:3]
    assert T28.lut_read_pj(32) == pytest.approx(math.sqrt(a.read_pj * b.read_pj))
    assert T28.lut_read_pj(8) == T28.luts[0].read_pj
    assert T28.lut_read_pj(4) == pytest.approx(T28.luts[0].read_pj ** 2 / a.read_pj)


def test_a_lut_with_other_ports_lies_on_the_line_through_one_and_four():
    lut = T28.luts[0]
    step = (lut.area_4_ports_um2 - lut.area_1_port_um2) / 3
    for ports in (1, 2, 4, 8):
        assert T28.lut_area_um2(8, ports) == pytest.approx(lut.area_1_port_um2 + (ports - 1) * step)


def test_larger_luts_and_more_ports_never_cost_less():
    sizes = [2**i for i in range(1, 13)]
    for smaller, larger in pairwise(sizes):
        assert T28.lut_read_pj(smaller) < T28.lut_read_pj(larger)
        assert T28.lut_leakage_uw(smaller) < T28.lut_leakage_uw(larger)
        assert T28.lut_area_um2(smaller, 4) < T28.lut_area_um2(larger, 4)
        assert T28.lut_area_um2(smaller, 4) < T28.lut_area_um2(smaller, 5)


def with_luts(*columns):
    """The 28 nm table with LUTs of these (entries, area with 1 port, area with 4), all else equal."""
    data = T28.model_dump()
    luts = [
        {**data["luts"][0], "entries": entries, "area_1_port_um2": one, "area_4_ports_um2": four}
        for entries, one, four in columns
    ]
    return parse_energy_table({**data, "luts": luts}, "mine.yaml")


@pytest.mark.parametrize(
    ("columns", "entries", "got"),
    [
        ([(8, 1e-12, 1.0), (9, 1e12, 1e12)], 512, "inf"),  # overflows
        ([(8, 1e12, 1e12), (9, 1e-12, 1e-12)], 512, "0"),  # underflows
        ([(8, 1.0, 1.0), (16, 1e3, 1e3)], 1 << 20, "1e\\+51"),
        ([(8, 1e12, 1e12)], 16, "2e\\+12"),
        ([(8, 100.0, 10.0)], 8, "-110"),  # with 8 ports
    ],
)
def test_prices_that_cannot_be_drawn_out_to_a_size_are_one_line(columns, entries, got):
    with pytest.raises(
        EnergyTableError, match=rf"^energy table 28nm: luts: expected .* {entries} entries .*; got {got}$"
    ):
        with_luts(*columns).lut_area_um2(entries, 8)


# --- buffers ---------------------------------------------------------------------------------------------------------


def test_a_buffer_takes_the_smallest_macro_of_its_width_that_holds_a_bank():
    found = price_buffer("forward.psum", Buffer(bytes=163840, word_bits=256, banks=10), T28)  # 16 KB a bank
    macro = next(m for m in T28.sram.macros if (m.bytes, m.word_bits) == (16384, 256))
    assert found.read_pj_per_byte == macro.read_pj / 32
    assert found.write_pj_per_byte == macro.write_pj / 32
    assert found.leakage_w == pytest.approx(10 * macro.leakage_mw / 1000)
    assert found.area_um2 == 10 * macro.area_um2
    assert price_buffer("forward.psum", Buffer(bytes=163850, word_bits=256, banks=10), T28).area_um2 > found.area_um2


@pytest.mark.parametrize("word_bits", [16, 64, 256, 1024])
@pytest.mark.parametrize("table", [T28, T45], ids=NAMES)
def test_a_bigger_buffer_is_never_smaller_on_the_chip_nor_leaks_less(table, word_bits):
    sizes = [3 << i for i in range(9, 21)]
    prices = [price_buffer("b", Buffer(bytes=n, word_bits=word_bits, banks=1), table) for n in sizes]
    for smaller, larger in pairwise(prices):
        assert smaller.area_um2 <= larger.area_um2
        assert smaller.leakage_w <= larger.leakage_w


def test_a_buffer_that_no_macro_fits_is_named_with_the_sizes_there_are():
    message = (
        r"^energy table 28nm: sram\.macros: expected one of 512-bit words and at least 16777216 bytes for a bank of "
        r"buffer backward\.state; got 2048 to 8388608 bytes$"
    )
    with pytest.raises(EnergyTableError, match=message):
        price_buffer("backward.state", Buffer(bytes=1 << 24, word_bits=512, banks=1), T28)


def test_buffers_slower_than_the_clock_are_told():
    assert slow_buffers(machine(), T28) == ()
    engines = machine().model_dump()["engines"]["forward"]["buffers"]
    big = machine(forward__buffers=engines | {"output": {"bytes": 1 << 20, "word_bits": 256, "banks": 1}})
    assert slow_buffers(big, T28) == ("forward.output: a macro cycle of 1.46852 ns exceeds the clock's 1.25 ns",)


# --- area ------------------------------------------------------------------------------------------------------------


def test_area_is_units_times_entries():
    a, found = T28.actions, area(machine(), T28).to_dict()
    add, reg, mul = a.fp16_add.area_um2, a.register_access.area_um2, a.fp16_multiply.area_um2
    lut8, lut16 = T28.luts[0].area_4_ports_um2, T28.luts[1].area_4_ports_um2
    expected = {
        "forward": (1024 * (3 * lut8 + 8 * add + 4 * reg), 4096 * add, 64 * a.soma_element.area_um2),
        "weight_update": (1280 * (2 * lut16 + 4 * add + 4 * reg), 5120 * add),
        "backward": (
            4096 * (mul + add + 16 * reg + a.priority_encode.area_um2) + 1024 * 9 * reg,
            4096 * add,
            256 * a.grad_element.area_um2,
        ),
    }
    for engine, logic in expected.items():
        *blocks, glb = found[engine].values()
        assert blocks == pytest.approx(list(logic))
        n_buffers = {"forward": 4, "weight_update": 3, "backward": 5}[engine]
        assert glb == pytest.approx(n_buffers * price_buffer("b", Buffer(**GLB), T28).area_um2)
    assert found["total"] == pytest.approx(sum(sum(found[engine].values()) for engine in ENGINES))


@pytest.mark.parametrize(("engine", "adders"), [("forward", 36_864), ("weight_update", 40_960)])
def test_the_design_without_luts_has_the_adders_of_the_sources_baseline(engine, adders):
    found = area(machine(**{f"{engine}__lut": False}), T28).to_dict()[engine]
    pes, weights = {"forward": (1024, 9), "weight_update": (1280, 8)}[engine]
    registers = pes * (weights + 4) * T28.actions.register_access.area_um2
    assert found["pe_array"] + found["acc"] - registers == pytest.approx(adders * T28.actions.fp16_add.area_um2)


def test_dense_mode_has_no_finders_and_double_buffered_luts_are_there_twice():
    base = area(machine(), T28).to_dict()
    dense = area(machine(backward__mode="dense"), T28).to_dict()
    finders = base["backward"]["pe_array"] - dense["backward"]["pe_array"]
    assert finders == pytest.approx(4096 * T28.actions.priority_encode.area_um2)
    double = area(machine(forward__lut_double_buffered=True), T28).to_dict()
    more = double["forward"]["pe_array"] - base["forward"]["pe_array"]
    assert more == pytest.approx(3072 * T28.luts[0].area_4_ports_um2)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("field", ["rows", "columns", "parallelism"])
def test_a_larger_array_is_larger_and_leaks_more(engine, field):
    base = machine()
    larger = machine(**{f"{engine}__{field}": 2 * getattr(getattr(base.engines, engine), field)})
    assert area(larger, T28).total_um2 > area(base, T28).total_um2
    assert area(larger, T28).leakage_w(engine) >= area(base, T28).leakage_w(engine)


# --- the bill --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [T28, T45], ids=NAMES)
def test_energy_is_the_sum_of_count_times_price(table):
    cost = price(STEP, machine(), table)
    assert cost.energy_j == 1e-12 * math.fsum(c.count * c.unit_pj for c in cost.charges)
    bill = cost.reconcile()
    assert all(line.energy_pj == line.count * line.unit_pj and line.source for line in bill)
    assert 1e-12 * math.fsum(line.energy_pj for line in bill) == pytest.approx(cost.energy_j, rel=1e-14)
    rows = [energy for index in range(len(ROWS)) for energy in cost.layer_energy_pj(index).values()]
    assert 1e-12 * math.fsum([*rows, cost.idle_leakage_pj]) == pytest.approx(cost.energy_j, rel=1e-14)
    engines = [energy for engine in ENGINES for energy in cost.engine_energy_j(engine).values()]
    assert math.fsum(engines) == pytest.approx(cost.energy_j, rel=1e-14)


def test_a_row_costs_what_a_hand_count_gives():
    cost, a, lut = price(STEP, machine(), T28), T28.actions, T28.luts[0]
    glb = price_buffer("b", Buffer(**GLB), T28)
    found = cost.layer_energy_pj(0)
    assert found["lut"] == pytest.approx(1000 * lut.read_pj + 80 * lut.write_pj)
    assert found["fp16_add"] == pytest.approx(1000 * a.fp16_add.energy_pj)
    assert found["soma"] == pytest.approx(64 * a.soma_element.energy_pj)
    assert found["glb"] == pytest.approx(4196 * glb.read_pj_per_byte + 2055 * glb.write_pj_per_byte)
    assert found["leakage"] == pytest.approx(400 / 800e6 * area(machine(), T28).leakage_w("forward") * 1e12)
    assert found["fp16_multiply"] == found["register"] == found["priority_encode"] == found["grad"] == 0
    assert cost.layer_offchip_pj(0) == 960 * 8 * 3.97
    update = cost.layer_energy_pj(2)["lut"]
    assert update == pytest.approx(5000 * T28.luts[1].read_pj + 160 * T28.luts[1].write_pj)
    parts = cost.engine_energy_j("forward")
    assert list(parts) == ["pe_array", "acc", "soma", "glb", "leakage"]
    assert parts["acc"] == pytest.approx(300e-12 * a.fp16_add.energy_pj)


def test_leakage_is_power_times_the_step_and_each_row_bears_its_cycles():
    cost = price(STEP, machine(), T28)
    leaked = math.fsum(cost.engine_energy_j(engine)["leakage"] for engine in ENGINES)
    assert leaked == pytest.approx(cost.leakage_w * 1000 / 800e6)
    assert cost.average_power_w == pytest.approx(cost.energy_j / (1000 / 800e6))
    idle = {"forward": 500, "weight_update": 110, "backward": 223}
    machine_area = area(machine(), T28)
    expected = math.fsum(n / 800e6 * machine_area.leakage_w(engine) for engine, n in idle.items())
    assert 1e-12 * cost.idle_leakage_pj == pytest.approx(expected)
    crowded = price(replace(STEP, layers=(*ROWS, ROWS[2])), machine(), T28)  # two rows of 890 cycles in 1000
    assert crowded.engine_energy_j("weight_update")["leakage"] == pytest.approx(
        machine_area.leakage_w("weight_update") * 1000 / 800e6
    )
    assert all(charge.count >= 0 for charge in crowded.charges)


def test_offchip_energy_stands_alone():
    quiet = replace(STEP, layers=tuple(replace(r, offchip_read_bytes=0, offchip_write_bytes=0) for r in ROWS))
    with_traffic, without = price(STEP, machine(), T28), price(quiet, machine(), T28)
    assert with_traffic.energy_j == without.energy_j
    assert with_traffic.offchip_energy_j == pytest.approx(967 * 8 * 3.97e-12)
    assert without.offchip_energy_j == 0


def test_a_step_of_no_cycles_has_no_power():
    nothing = price(replace(STEP, layers=(), steady_cycles=0), machine(), T28)
    assert (nothing.energy_j, nothing.average_power_w, nothing.offchip_energy_j) == (0, 0, 0)


@pytest.mark.parametrize("action", [name for name in ACTION_NAMES if not name.startswith("lut")])
def test_changing_one_entry_changes_exactly_its_share(action):
    data = plain(T28)
    data["actions"][action] |= {"energy_pj": 2 * data["actions"][action]["energy_pj"], "high_pj": 100.0}
    before, after = price(STEP, machine(), T28), price(STEP, machine(), parse_energy_table(data, "twice.yaml"))
    expected = [2 * c.unit_pj if c.action == action else c.unit_pj for c in before.charges]
    assert [c.unit_pj for c in after.charges] == expected
    counts = sum(getattr(r.pe_array + r.acc + r.neuron, action) for r in ROWS)
    share = counts * getattr(T28.actions, action).energy_pj * 1e-12
    assert counts
    assert after.energy_j - before.energy_j == pytest.approx(share, rel=1e-6)
    assert parse_energy_table(data, "twice.yaml").sha256 != T28.sha256


def test_a_buffer_that_the_engine_lacks_is_refused():
    wrong = replace(STEP, layers=(replace(ROWS[0], buffers=(BufferTraffic("state", 1, 1),)),))
    message = r"^conv: expected a buffer of forward \(spikes, weights, psum, output\); got 'state'$"
    with pytest.raises(EnergyTableError, match=message):
        price(wrong, machine(), T28)


# --- wrong tables ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (spoiled(T28, "actions", "fp16_multiply"), "actions: lacks an entry for 'fp16_multiply'"),
        (spoiled(T28, "offchip", "source"), "offchip: lacks an entry for 'source'"),
        (spoiled(T28, "sram"), "top level: lacks an entry for 'sram'"),
        (spoiled(T28, "sram", "macros", 3, value=[64, 8]), "sram.macros.3: lacks an entry for 'read_pj'"),
        (spoiled(T28, "actions", "fp16_ad", value=1), "actions.fp16_ad: unknown field; did you mean 'fp16_add'?"),
        (spoiled(T28, "luts", 1, "raed_pj", value=1), "luts.1.raed_pj: unknown field; did you mean 'read_pj'?"),
        (spoiled(T28, "actions", "fp16_add", "energy_pj", value=-1),
         "actions.fp16_add.energy_pj: expected greater than or equal to 0; got -1"),
        (spoiled(T28, "actions", "fp16_add", "energy_pj", value=math.nan),
         "actions.fp16_add.energy_pj: expected a finite number; got nan"),
        (spoiled(T28, "offchip", "energy_pj_per_bit", value=math.inf),
         "offchip.energy_pj_per_bit: expected a finite number; got inf"),
        (spoiled(T28, "actions", "fp16_add", "area_um2", value="526"),
         "actions.fp16_add.area_um2: expected a valid number; got '526'"),
        (spoiled(T28, "actions", "fp16_add", "low_pj", value=0.5),
         "actions.fp16_add: expected low <= value <= high; got 0.5, 0.208, 0.36"),
        (spoiled(T28, "luts", 1, "entries", value=8), "luts: expected each number of entries once; got 8 again"),
        (spoiled(T28, "sram", "macros", 1, 0, value=64),
         "sram.macros: expected each (bytes, word_bits) once; got (64, 8) again"),
        (spoiled(T28, "kind", value="guess"),
         "kind: expected 'first-principles', 'derived' or 'calibrated'; got 'guess'"),
        ([1], "expected a mapping of fields; got list"),
    ],
)  # fmt: skip
def test_a_wrong_table_is_refused_in_one_line_that_names_the_field(data, message):
    with pytest.raises(EnergyTableError, match=re.compile(rf"^my\.yaml: {re.escape(message)}", re.MULTILINE)):
        parse_energy_table(data, "my.yaml")


def test_all_faults_of_a_table_are_told_at_once(tmp_path):
    data = copy.deepcopy(plain(T28))
    del data["actions"]["soma_element"]
    data["offchip"]["energy_pj_per_bit"] = -3
    data["nmae"] = data.pop("name")
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(data))
    with pytest.raises(EnergyTableError, match="lacks an entry") as caught:
        load_energy_table(file)
    assert str(caught.value).splitlines() == [
        f"{file}: top level: lacks an entry for 'name'",
        f"{file}: actions: lacks an entry for 'soma_element'",
        f"{file}: offchip.energy_pj_per_bit: expected greater than or equal to 0; got -3",
        f"{file}: nmae: unknown field; did you mean 'name'?",
    ]


def test_a_missing_table_lists_the_shipped_ones_and_broken_text_is_told(tmp_path):
    shipped = r"^22nm: no such energy table file; shipped energy table files: 28nm, .*45nm"
    with pytest.raises(EnergyTableError, match=shipped):
        load_energy_table("22nm")
    for content in (b"a: [1", b"\xff\xfe\xfa", b"!!python/object/apply:os.getcwd []"):
        (tmp_path / "bad.yaml").write_bytes(content)
        with pytest.raises(EnergyTableError, match=r"bad\.yaml: (not valid YAML at line 1: |cannot be read: )[^\n]+$"):
            load_energy_table(tmp_path / "bad.yaml")


def test_a_table_file_prices_like_the_shipped_one_and_keeps_its_hash(tmp_path):
    (tmp_path / "copy.yaml").write_text(library.find("energy table", "28nm").read_text())
    copied = load_energy_table(tmp_path / "copy.yaml")
    assert copied.sha256 == T28.sha256 != T45.sha256
    assert re.fullmatch(r"[0-9a-f]{64}", copied.sha256)
    assert price(STEP, machine(), copied).energy_j == price(STEP, machine(), T28).energy_j


@pytest.mark.parametrize("name", ["28nm", "45nm"])
def test_what_the_units_are_charged_adds_up_to_the_logic_area(name):
    arch, table = load_arch("h2learn"), load_energy_table(name)
    charged, engines = unit_um2(arch, table), arch.engines
    pes = {"forward": "lut_pe", "weight_update": "lut_pe", "backward": "group_pe"}
    total = 0.0
    for engine, unit in pes.items():
        shape = getattr(engines, engine)
        lanes = shape.parallelism if engine == "backward" else 1
        total += shape.rows * shape.columns * lanes * charged[f"{engine}_{unit}"]
        total += shape.columns * charged[f"{engine}_column"]
    logic = math.fsum(block.area_um2 for block in area(arch, table).blocks if block.component != "glb")
    assert total == pytest.approx(logic)

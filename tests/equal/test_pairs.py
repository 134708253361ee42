"""Properties: what an open trace keeps of one machine's counts gives another machine the counts of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import h2sim
from h2sim.engines import backward, pairs
from h2sim.kernels.bits import tile_popcounts
from h2sim.trace.kept import Kept
from tests.equal.test_engines import DENSITIES, H2LEARN, SEEDS, TILES, bits, conv_shapes, engines, maps, pack
from tests.helpers.traces import tiny_trace

MODES = ["dense", "input_only", "output_only", "dual"]
FIELDS = {
    "engines.backward.mode": MODES,
    "engines.backward.rows": [1, 2, 3, 4, 6, 16],
    "engines.backward.columns": [1, 2, 3, 4, 6, 64],
    "engines.backward.parallelism": [1, 3, 4],
    "engines.backward.empty_window_cycles": [0, 1, 2],
    "engines.backward.tile_sync_cycles": [0, 4],
    "engines.backward.dm_compressed": [True, False],
    "engines.forward.columns": [4, 16],
    "tile.height": [2, 3, 8],
    "tile.width": [1, 5, 8],
}
ARCHES = st.fixed_dictionaries({field: st.sampled_from(values) for field, values in FIELDS.items()}).map(
    lambda changes: H2LEARN.with_(changes)
)


def open_masks(grad, window, most_bytes=1 << 20):
    """What `pairs_of` asks of an open trace's maps."""
    masks = {"grad": grad, "needed": window}
    return SimpleNamespace(kept=Kept(most_bytes), packed=lambda layer, kind: masks[kind])


@settings(max_examples=60)
@given(st.data(), TILES, conv_shapes(), DENSITIES, DENSITIES, SEEDS, st.sampled_from([0, 40, 1 << 20]))
def test_machine_after_machine_gets_the_counts_that_it_gets_alone(data, tile, shape, of_grad, of_window, seed, most):
    """Also where little may be kept, and where finer groups would be too many."""
    rng = np.random.default_rng(seed)
    grad, window = pack(bits(rng, of_grad, *maps(shape)[1])), pack(bits(rng, of_window, *maps(shape)[0]))
    masks = open_masks(grad, window, most)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "MOST_FINER_BYTES", most)
        for _ in range(6):
            engine = data.draw(engines("backward", parallelism=data.draw(st.integers(1, 2)), empty_window_cycles=1))
            key = pairs.PairsKey.of(engine, tile, shape)
            shared = pairs.pairs_of(masks, key, shape, "layer", "source")
            alone = backward.conv(engine, tile, shape, grad, window)
            found = backward.conv_of(engine, tile, shape, shared)
            assert np.array_equal(found.iteration_cycles, alone.iteration_cycles)
            assert (found.pe_array, found.acc, found.neuron_cycles) == (alone.pe_array, alone.acc, alone.neuron_cycles)
            assert found.useful_operations == alone.useful_operations


@pytest.fixture
def counting(monkeypatch):
    """(rows, columns) of every count of masks that is made."""
    made = []
    count = pairs.count_pairs
    monkeypatch.setattr(
        pairs, "count_pairs", lambda key, *rest: made.append((key.rows, key.columns)) or count(key, *rest)
    )
    return made


def test_one_count_serves_all_coarser_groups(counting):
    rng, shape = np.random.default_rng(0), conv_shape(24, 12)
    masks = open_masks(pack(bits(rng, 0.3, *maps(shape)[1])), pack(bits(rng, 0.3, *maps(shape)[0])))

    def ask(**changes):
        engine = H2LEARN.engines.backward.model_copy(update=changes)
        pairs.pairs_of(masks, pairs.PairsKey.of(engine, H2LEARN.tile, shape), shape, "layer", "source")
        made = list(counting)
        counting.clear()
        return made

    assert ask(rows=4, columns=6) == [(4, 6)]
    assert ask(rows=4, columns=6) == []
    assert ask(rows=8, columns=12) == []
    assert ask(rows=24, columns=64) == []  # all channels, which 64 columns do not fill
    assert ask(rows=6, columns=6) == [(2, 6)]  # for both from now on
    assert ask(rows=4, columns=6) == []
    assert ask(rows=16, columns=6, parallelism=2) == [(16, 6)]
    assert ask(rows=16, columns=6, mode="input_only") == [(16, 1)]
    assert ask(rows=8, columns=4, mode="input_only") == [(8, 1)]
    assert ask(rows=16, columns=1, mode="input_only") == []


def conv_shape(out_channels, in_channels):
    return backward.ConvShape.of((2, 1), (in_channels, 9, 9), (out_channels, 9, 9), (3, 3), padding=(1, 1))


def results(arch, trace):
    return h2sim.count(arch, trace).activity


@settings(max_examples=25)
@given(st.lists(ARCHES, min_size=2, max_size=5))
def test_an_open_trace_gives_every_machine_the_result_of_a_trace_opened_for_it(tmp_path_factory, arches):
    path = tiny_trace(tmp_path_factory.mktemp("trace"))
    trace = h2sim.load_trace(path)
    for arch in [*arches, arches[0]]:
        assert results(arch, trace) == results(arch, h2sim.load_trace(path))


def test_a_second_simulation_counts_nothing(counting, tmp_path, monkeypatch):
    trace = h2sim.load_trace(tiny_trace(tmp_path))
    h2sim.simulate(H2LEARN, trace)
    assert counting
    counting.clear()
    monkeypatch.setattr("h2sim.trace.maps.tile_popcounts", None)  # a call would raise
    h2sim.simulate(H2LEARN.with_({"memory.bandwidth_bytes_per_s": 10**9}), trace)
    assert counting == []


def test_threads_that_share_a_trace_get_their_own_machines_results(tmp_path):
    path = tiny_trace(tmp_path)
    arches = [
        H2LEARN.with_({"engines.backward.rows": rows, "tile.height": height})
        for rows in (1, 2, 3, 4, 6)
        for height in (3, 8)
    ]
    alone = [results(arch, h2sim.load_trace(path)) for arch in arches]
    trace = h2sim.load_trace(path)
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda arch: results(arch, trace), arches * 4)) == alone * 4


@settings(max_examples=30)
@given(st.integers(1, 12), st.integers(1, 12))
def test_counts_in_tiles_are_those_of_the_mask(height, width):
    trace = h2sim.load_trace("mnist-digits")
    for name in ("conv1", "fc1"):
        mask = np.ascontiguousarray(trace.maps.packed(name, "window"))
        expected = tile_popcounts(mask, *trace.meta.layer(name).out_chw, height, width)
        assert np.array_equal(trace.maps.in_tiles(name, "window", (height, width)), expected)


def test_what_is_kept_is_bounded_and_what_was_asked_for_last_stays():
    kept = Kept(100)
    for name in "abc":
        kept.get(name, lambda: np.zeros(40, np.uint8))
        kept.get("a", lambda: np.zeros(40, np.uint8))
    assert kept.nbytes <= 100
    assert kept.find("a") is not None
    assert kept.find("b") is None
    kept.keep("large", np.zeros(1000, np.uint8))  # alone it may be larger
    assert kept.nbytes == 1000


class Asked:
    """A thing of 40 bytes that counts how often it is asked for them."""

    times = 0

    @property
    def nbytes(self) -> int:
        self.times += 1
        return 40


def test_a_thing_that_is_kept_is_asked_for_its_bytes_once():
    kept, things = Kept(100 * 40), [Asked() for _ in range(200)]
    for number, thing in enumerate(things):
        kept.keep(number, thing)
        kept.find(number // 2)
    assert {thing.times for thing in things} == {1}
    assert kept.nbytes == 100 * 40


def test_a_sum_that_another_thread_has_overwritten_is_mended():
    kept = Kept(100 * 40)
    for number in range(100):
        kept.keep(number, Asked())
    kept._sum = 0
    for number in range(100, 200):
        kept.keep(number, Asked())
    assert kept.nbytes == 100 * 40
    assert kept.find(99) is None
    assert kept.find(100) is not None


def test_things_that_threads_keep_at_once_stay_within_the_bound():
    kept = Kept(50 * 40)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda number: kept.keep(number % 90, Asked()), range(4000)))
    for number in range(60):
        kept.keep(("last", number), Asked())
    assert kept.nbytes <= 50 * 40

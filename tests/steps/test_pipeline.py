"""Pipeline: one training step of real traces; order, overlap, what must never make it slower or larger."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import h2sim
from h2sim.arch import load_arch, with_mode
from h2sim.engines import backward
from h2sim.pipeline.step import build_jobs, simulate_step
from h2sim.shapes import ConvShape
from h2sim.trace import load_trace, write_trace
from h2sim.trace.graph import Graph
from tests.helpers.traces import changed, parts

RESIDUAL = Path(__file__).parents[1] / "data" / "encode-residual.npz"
ARCH = load_arch("h2learn")


@pytest.fixture(scope="module", params=["mnist-digits", str(RESIDUAL)])
def trace(request):
    return h2sim.load_trace(request.param)


def offchip(activity) -> int:
    return sum(row.offchip_read_bytes + row.offchip_write_bytes for row in activity.layers)


def test_every_row_accounts_for_every_cycle(trace):
    activity = simulate_step(ARCH, trace)
    for row in activity.layers:
        assert row.end_cycle - row.start_cycle == row.compute_cycles + row.fill_cycles + row.stalls.total
        assert min(row.compute_cycles, row.fill_cycles, *vars(row.stalls).values()) >= 0
    for engine in ("forward", "weight_update", "backward"):
        rows = [row for row in activity.layers if row.engine == engine]
        starts = sorted((row.start_cycle, row.end_cycle) for row in rows)
        assert starts[0][0] == 0
        assert all(end == start for (_, end), (start, _) in pairwise(starts))


def test_an_ideal_memory_leaves_no_memory_stall_and_the_same_work(trace):
    real, ideal = simulate_step(ARCH, trace), simulate_step(ARCH, trace, ideal_memory=True)
    assert all(row.stalls.memory_read == row.stalls.memory_write == 0 for row in ideal.layers)
    assert ideal.steady_cycles <= real.steady_cycles
    assert [row.compute_cycles for row in ideal.layers] == [row.compute_cycles for row in real.layers]
    assert offchip(ideal) == offchip(real)
    assert ideal.memory == ()


def test_the_pipeline_overlaps_engines_but_not_more_than_all_of_them(trace):
    a = simulate_step(ARCH, trace)
    assert a.steady_cycles <= a.first_cycles
    busiest = max(
        sum(r.compute_cycles for r in a.layers if r.engine == e) for e in ("forward", "weight_update", "backward")
    )
    assert busiest <= a.steady_cycles
    assert a.batch_cycles == a.first_cycles + (a.sub_batches - 1) * a.steady_cycles + a.update_cycles


@pytest.mark.parametrize("factor", [2, 10])
def test_more_bandwidth_never_adds_cycles(trace, factor):
    faster = changed("memory.bandwidth_bytes_per_s", 128 * 10**9 * factor)
    assert simulate_step(faster, trace).steady_cycles <= simulate_step(ARCH, trace).steady_cycles


BUFFERS = [
    "forward.buffers.spikes", "forward.buffers.weights", "forward.buffers.psum", "weight_update.buffers.spikes",
    "weight_update.buffers.weight_gradients", "backward.buffers.gradients", "backward.buffers.weights",
    "backward.buffers.psum",
]  # fmt: skip


@pytest.mark.parametrize("path", BUFFERS)
def test_a_smaller_buffer_never_takes_bytes_away_from_the_memories(trace, path):
    small = {"bytes": 2048, "word_bits": 256, "banks": 1}
    assert offchip(simulate_step(changed(f"engines.{path}", small), trace)) >= offchip(simulate_step(ARCH, trace))


def test_sparsity_modes_are_ordered_and_only_move_the_backward_engine(trace):
    cycles = {}
    for mode in ("dense", "input_only", "output_only", "dual"):
        rows = simulate_step(with_mode(ARCH, mode), trace).layers
        cycles[mode] = sum(r.compute_cycles for r in rows if r.phase == "backward")
        assert sum(r.compute_cycles for r in rows if r.engine != "backward") == sum(
            r.compute_cycles for r in simulate_step(ARCH, trace).layers if r.engine != "backward"
        )
    assert cycles["dual"] <= min(cycles["input_only"], cycles["output_only"])
    assert max(cycles["input_only"], cycles["output_only"]) <= cycles["dense"]
    assert cycles["dual"] < cycles["dense"]


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.sampled_from(["dual", "input_only", "output_only"]))
def test_a_denser_mask_is_never_faster(seed, mode):
    rng = np.random.default_rng(seed)
    shape = ConvShape(
        timesteps=2,
        batch=1,
        in_channels=5,
        in_height=9,
        in_width=9,
        out_channels=6,
        out_height=9,
        out_width=9,
        kernel=(3, 3),
        stride=(1, 1),
        padding=(1, 1),
    )
    engine = ARCH.engines.backward.model_copy(update={"mode": mode, "rows": 4, "columns": 3})
    grad, window = rng.random((2, 6 * 81)), rng.random((2, 5 * 81))

    def cycles(density):
        return backward.conv(
            engine, ARCH.tile, shape, np.packbits(grad < density, axis=1), np.packbits(window < 0.3, axis=1)
        ).compute_cycles

    assert cycles(0.1) <= cycles(0.2) <= cycles(0.6) <= cycles(1.0)


def test_jobs_stand_in_the_order_of_the_passes(trace):
    forward, backward_jobs, update = build_jobs(ARCH, trace)
    order = [layer.name for layer in trace.meta.layers]
    assert [job.layer for job in forward] == order
    assert [job.layer for job in backward_jobs] == [n for n in reversed(order) if n in {j.layer for j in backward_jobs}]
    assert order[0] not in {job.layer for job in backward_jobs}
    weighted = [layer.name for layer in trace.meta.layers if layer.kind in ("conv", "fc", "encode")]
    assert [job.layer for job in update] == weighted[::-1]
    encode = [layer.name for layer in trace.meta.layers if layer.kind == "encode"]
    assert {j.layer for j in forward + update if j.engine == "backward"} == set(encode)


def test_no_job_reads_a_gradient_before_it_is_written(trace):
    activity = simulate_step(ARCH, trace)
    rows = {(row.layer, row.phase): row for row in activity.layers}
    _, backward_jobs, update = build_jobs(ARCH, trace)
    for job in backward_jobs + update:
        for before in job.after:
            row = rows[job.key]
            assert rows[before].end_cycle <= row.end_cycle - row.compute_cycles - row.fill_cycles


def test_the_gradient_of_a_residual_net_is_completed_by_the_last_consumer_the_backward_pass_meets():
    graph = Graph(h2sim.load_trace(RESIDUAL).meta)
    layer = graph.meta.layer
    completed = {job: [s.name for s in graph.gradients.shares(job) if s.complete] for job in ("block1", "join")}
    assert completed == {"block1": ["down"], "join": ["block2"]}  # down also feeds join, which comes first going back
    assert graph.is_own(layer("block2"), layer("join"))  # so that nothing is computed for it
    assert graph.gradient_ready(layer("block2")) == graph.gradient_ready(layer("join")) == (("pool1", "backward"),)
    assert graph.gradient_ready(layer("down")) == (("block1", "backward"),)
    assert graph.gradient_ready(layer("fc2")) == ()


def test_an_inference_trace_runs_forward_only_and_keeps_no_membrane(tmp_path):
    full = h2sim.load_trace("mnist-digits")
    meta = json.loads(full.meta.model_dump_json())
    meta["phases"], meta["source"] = ["forward"], {"kind": "inference"}
    members = {"input.spikes": full.input_spikes()}
    for layer in full.meta.layers:
        if layer.spiking:
            members |= {f"{layer.name}.{kind}": full.mask(layer.name, kind) for kind in ("spikes", "window")}
    write_trace(tmp_path / "i.npz", meta, members)
    activity = simulate_step(ARCH, h2sim.load_trace(tmp_path / "i.npz"))
    assert {row.phase for row in activity.layers} == {"forward"}
    training = {r.layer: r for r in simulate_step(ARCH, full).layers if r.phase == "forward"}
    for row in activity.layers:
        assert row.compute_cycles == training[row.layer].compute_cycles
        assert row.offchip_write_bytes <= training[row.layer].offchip_write_bytes
    assert activity.update_cycles == 0


def test_two_simulations_of_one_trace_are_equal(trace):
    assert simulate_step(ARCH, trace) == simulate_step(ARCH, trace)


# --- an encoding layer computed once (engines.backward.encode_once) ---------------------------------------------------


def encoded(tmp_path, once: bool, analog_steps: int = 1):
    """Jobs of a small network with an encoding layer; its input has `analog_steps` frames."""
    meta, members = parts("4C3(Encoding)-6C3-10FC", (1, 9, 9), timesteps=3, batch=2)
    members["input.analog"] = np.ones((analog_steps, 2, 1, 9, 9), np.float32)
    write_trace(tmp_path / f"{once}{analog_steps}.npz", meta, members)
    trace = load_trace(tmp_path / f"{once}{analog_steps}.npz")
    both = {"engines.backward.encode_once": once, "engines.backward.encode_gradient_once": once}
    forward, _, update = build_jobs(ARCH.with_(both), trace)
    return forward[0], next(job for job in update if job.layer == "conv1")


def test_an_input_that_stands_still_is_convolved_once_and_swept_at_every_timestep(tmp_path):
    (every, every_dw), (once, once_dw) = encoded(tmp_path, False), encoded(tmp_path, True)
    for many, few in ((every, once), (every_dw, once_dw)):
        assert int(many.cycles.sum()) == 3 * int(few.cycles.sum())
        assert many.pe_array.fp16_multiply == 3 * few.pe_array.fp16_multiply
    assert once.neuron == every.neuron  # every timestep has its neuron updates
    assert once.fill_cycles > every.fill_cycles  # and Soma its sweeps: more of them are left when the array is done
    # dw: two additions for each of 2 x 4 x 9 x 9 gradients sum them over three timesteps first
    assert once_dw.pe_array.fp16_add == every_dw.pe_array.fp16_add // 3 + 2 * 2 * 4 * 81
    # the same bytes come and go; partial sums of one timestep instead of three
    assert np.array_equal(once.traffic.reads, every.traffic.reads)
    assert np.array_equal(once.traffic.writes, every.traffic.writes)
    psums = [next(b.read_bytes for b in job.traffic.buffers if b.buffer == "psum") for job in (every, once)]
    assert psums[0] == 3 * psums[1]


def test_an_input_that_changes_is_convolved_at_every_timestep_all_the_same(tmp_path):
    (every, every_dw), (once, once_dw) = (encoded(tmp_path, value, analog_steps=3) for value in (False, True))
    assert np.array_equal(every.cycles, once.cycles)
    assert np.array_equal(every_dw.cycles, once_dw.cycles)
    assert every_dw.pe_array == once_dw.pe_array

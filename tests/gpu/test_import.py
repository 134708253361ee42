"""Profiles made elsewhere: real ones of torch.profiler, and ones built as a GPU's profilers write them."""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2sim.errors import GpuTraceError
from h2sim.gpu.chrome import read_chrome
from h2sim.gpu.importing import Made, detect_format, import_profile
from h2sim.gpu.mapping import Mapper
from h2sim.gpu.nsys import read_nsys
from h2sim.gpu.profile import Event, Profile, Work, busy_ns
from h2sim.gpu.rules import Rule, gradient_of, load_rules, read_label
from tests.helpers.gpu_made import CUDA_STEP_US, INPUTS, MADE, ChromeTrace, by_label, cuda_step


def test_a_gpus_kernels_go_to_their_layers_and_phases(tmp_path):
    trace = import_profile(cuda_step().write(tmp_path / "p.json"), MADE)
    assert by_label(trace) == {label: pytest.approx(us * 1e-6, rel=1e-12) for label, us in CUDA_STEP_US.items()}
    assert (trace.origin, trace.samples, trace.batch, trace.timesteps) == ("imported", 4, 4, 10)
    assert trace.device.name == "Tesla V100-SXM2-16GB"
    assert trace.step.seconds == pytest.approx(900e-6)
    assert trace.step.repeats == 2
    kernels = {(row.layer, row.phase): row.kernels for row in trace.rows}
    assert kernels["conv2", "backward"] == kernels["conv2", "weight_update"] == 2
    assert any(note == "unmapped: 4.4% of the time; the largest: Memcpy HtoD 0.016 ms" for note in trace.notes)
    assert "sha256" in trace.sources["rows"]


def test_the_rows_add_up_to_the_time_of_all_kernels(tmp_path):
    path = cuda_step().write(tmp_path / "p.json")
    kernels = read_chrome(path).kernels
    trace = import_profile(path, MADE)
    assert math.fsum(row.seconds for row in trace.rows) * 2 == pytest.approx(
        sum(k.ns for k in kernels) / 1e9, rel=1e-12
    )


def test_a_gzipped_trace_and_a_bare_list_of_events_read_the_same(tmp_path):
    path = cuda_step().write(tmp_path / "p.json")
    (tmp_path / "p.json.gz").write_bytes(gzip.compress(path.read_bytes()))
    (tmp_path / "list.json").write_text(json.dumps(json.loads(path.read_text())["traceEvents"]))
    first = by_label(import_profile(path, MADE))
    assert by_label(import_profile(tmp_path / "p.json.gz", MADE)) == first
    bare = import_profile(tmp_path / "list.json", MADE)
    assert by_label(bare) == first
    assert bare.device.name == "unknown GPU"


def test_steps_that_are_told_divide_all_that_is_there(tmp_path):
    path = cuda_step().write(tmp_path / "p.json")
    trace = import_profile(path, Made(network="three", inputs=INPUTS, batch=4, steps=2))
    assert by_label(trace) == by_label(import_profile(path, MADE))
    # first launch at 15 us, last kernel's end at 1538 us
    assert trace.step.seconds == pytest.approx((1538 - 15) * 1e-6 / 2)


def test_what_was_launched_outside_the_steps_is_kept_apart(tmp_path):
    profile = cuda_step()
    profile.kernel("early", 950.0, 951.0, 40.0)
    trace = import_profile(profile.write(tmp_path / "p.json"), MADE)
    assert by_label(trace)["outside steps", "other"] == pytest.approx(20e-6)
    assert by_label(trace)["conv1", "forward"] == pytest.approx(9e-6)


def test_overlapping_kernels_count_in_full_and_the_note_says_how_much_was_busy(tmp_path):
    profile = ChromeTrace()
    profile.add("user_annotation", "conv1", 0.0, 50.0)
    profile.kernel("a", 1.0, 10.0, 20.0)
    profile.kernel("b", 2.0, 20.0, 20.0)
    trace = import_profile(profile.write(tmp_path / "p.json"), MADE)
    assert by_label(trace) == {("conv1", "forward"): pytest.approx(40e-6)}
    assert "each counts in full where several run at once: 0.040 ms in all, 0.030 ms busy" in trace.notes


intervals = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 10)), max_size=12)


@given(intervals)
def test_busy_time_is_that_of_a_clock_that_looks_at_every_nanosecond(drawn):
    works = [Work("k", start, start + ns) for start, ns in drawn]
    assert busy_ns(works) == len({t for work in works for t in range(work.start_ns, work.end_ns)})


@st.composite
def profiles(draw):
    """Any nest of ranges and operations with any kernels launched anywhere, or from nowhere."""
    names = ["conv1", "h2sim:conv2:backward", "h2sim:loss", "ConvolutionBackward0", "AddmmBackward0", "aten::mm", "x"]
    placed = st.tuples(st.sampled_from(names), st.integers(0, 50), st.integers(0, 30), st.integers(0, 1))
    events = []
    for name, start, ns, thread in draw(st.lists(placed, max_size=10)):
        kind = "range" if name == "conv1" or name.startswith("h2sim:") else "op"
        events.append(
            Event(
                name=name,
                kind=kind,
                start_ns=start,
                end_ns=start + ns,
                thread=thread,
                sequence=draw(st.none() | st.integers(0, 2)),
            )
        )
    kernels, launches = [], {}
    launched_from = st.tuples(
        st.sampled_from(["wgrad", "dgrad", "k"]), st.integers(0, 60), st.integers(0, 9), st.booleans()
    )
    for key, (name, launched, ns, known) in enumerate(draw(st.lists(launched_from, min_size=1, max_size=8))):
        kernels.append(Work(name, launched, launched + ns, key))
        if known:
            launches[key] = len(events)
            events.append(
                Event(name="cudaLaunchKernel", kind="launch", start_ns=launched, end_ns=launched + 1, thread=0)
            )
    return Profile(tuple(kernels), tuple(events), launches)


@given(profiles(), st.sampled_from([(), (Rule(kernel="k", layer="fc1"),)]))
def test_no_kernels_time_is_lost_or_counted_twice(profile, rules):
    mapped = Mapper(profile, INPUTS, rules).map(profile.works)
    assert sum(mapped.ns.values()) == sum(kernel.ns for kernel in profile.kernels)
    assert sum(mapped.kernels.values()) == len(profile.kernels)
    assert all(phase == "other" or layer in INPUTS for layer, phase in mapped.ns)


@given(profiles())
def test_parents_are_the_innermost_that_hold_an_events_start(profile):
    for index, parent in enumerate(profile.parents):
        event = profile.events[index]
        holding = [
            other
            for other in profile.events
            if other is not event and other.thread == event.thread and other.kind != "launch"
            and other.start_ns < event.start_ns < other.end_ns
        ]  # fmt: skip
        if parent < 0:
            assert not holding
        else:
            assert profile.events[parent].start_ns <= event.start_ns < profile.events[parent].end_ns
            assert profile.events[parent].start_ns >= max((other.start_ns for other in holding), default=0)


def test_a_half_goes_to_each_gradient_where_no_name_says(tmp_path):
    profile = ChromeTrace()
    profile.add("user_annotation", "conv2", 0.0, 50.0)
    profile.add("cpu_op", "aten::conv2d", 1.0, 10.0, **{"Sequence number": 5})
    profile.add("cpu_op", "ConvolutionBackward0", 100.0, 10.0, 2, **{"Sequence number": 5})
    profile.kernel("winograd", 105.0, 200.0, 0.003, 2)
    trace = import_profile(profile.write(tmp_path / "p.json"), MADE)
    assert by_label(trace) == {("conv2", "backward"): 2e-9, ("conv2", "weight_update"): 1e-9}
    assert any(note.startswith("[A] 100.0% of the time halved") for note in trace.notes)


def test_the_operation_that_made_a_node_is_the_last_to_begin_with_its_number():
    events = (
        Event(name="conv1", kind="range", start_ns=0, end_ns=10, thread=1),
        Event(name="aten::detach", kind="op", start_ns=1, end_ns=2, thread=1, sequence=3),
        Event(name="conv2", kind="range", start_ns=20, end_ns=30, thread=1),
        Event(name="aten::relu", kind="op", start_ns=21, end_ns=22, thread=1, sequence=3),
        Event(name="ReluBackward0", kind="op", start_ns=40, end_ns=50, thread=2, sequence=3),
        Event(name="launch", kind="launch", start_ns=41, end_ns=42, thread=2),
    )
    profile = Profile((Work("k", 60, 67, "key"),), events, {"key": 5})
    assert Mapper(profile, INPUTS).map(profile.works).ns == {("conv2", "backward"): 7}


def test_rules_are_asked_first_and_in_order(tmp_path):
    (tmp_path / "rules.yaml").write_text(
        "rules:\n"
        "- {kernel: ^Memcpy, layer: data, phase: other}\n"
        "- {kernel: elementwise_ge, op: ^Fire$, layer: conv2}\n"
        "- {op: ^conv1$, layer: fc1, phase: backward}\n"
    )
    rules = load_rules(tmp_path / "rules.yaml", INPUTS)
    found = by_label(import_profile(cuda_step().write(tmp_path / "p.json"), MADE, rules))
    assert found["data", "other"] == pytest.approx(8e-6)
    assert found["conv2", "forward"] == pytest.approx(13e-6)  # 11 + 2
    assert found["fc1", "backward"] == pytest.approx(24e-6)  # 17 + 7
    assert ("conv1", "forward") not in found
    assert ("unmapped", "other") not in found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules: [", "not valid YAML at line"),
        ("- a", "expected a mapping of fields; got list"),
        ("rules: []", "rules: expected"),
        ("rules: [{layer: conv1}]", "rules.0: expected kernel, op or both; got neither"),
        ("rules: [{kernel: '(', layer: conv1}]", "rules.0.kernel: expected a regular expression; got '\\(': missing"),
        ("rules: [{kernel: a, layer: conv1, phase: up}]", "rules.0.phase: expected 'forward', 'backward'"),
        (
            "rules: [{kernel: a, layer: conv9}]",
            r"rules.0.layer: expected a layer of the network \(conv1, conv2, fc1\), or",
        ),
        ("rules: [{kernel: a, lyaer: conv1}]", "unknown field; did you mean 'layer'"),
    ],
)
def test_wrong_rules_are_refused(tmp_path, text, said):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(GpuTraceError, match=said):
        load_rules(tmp_path / "r.yaml", INPUTS)


def test_rules_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(GpuTraceError, match="no such file"):
        load_rules(tmp_path / "none.yaml", INPUTS)
    (tmp_path / "r.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(GpuTraceError, match="cannot be read: not UTF-8 text"):
        load_rules(tmp_path / "r.yaml", INPUTS)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("conv1", ("conv1", None)),
        ("h2sim:conv1", ("conv1", None)),
        ("conv1:backward", ("conv1", "backward")),
        ("h2sim:conv1:weight_update", ("conv1", "weight_update")),
        ("h2sim:loss", ("loss", "other")),
        ("loss", None),
        ("conv10", None),
        ("odd:forward", ("odd:forward", None)),
        ("h2sim:  ", None),
        ("h2sim: my loss ", ("my loss", "other")),
        ("h2sim:" + "x" * 61, ("x" * 57 + "...", "other")),
        ("h2sim:" + "x" * 60, ("x" * 60, "other")),
    ],
)
def test_a_ranges_name_says_layer_and_phase(name, label):
    assert read_label(name, [*INPUTS, "odd:forward"]) == label


@pytest.mark.parametrize(
    ("kernel", "phase"),
    [
        ("cudnn::cnn::wgrad2d_grouped_direct_kernel", "weight_update"),
        ("sm80_xmma_wgrad_implicit_gemm_indexed_tf32f32", "weight_update"),
        ("cudnn_convolution_backward_filter", "weight_update"),
        ("sm80_xmma_dgrad_implicit_gemm_indexed_tf32f32", "backward"),
        ("void cudnn::detail::dgrad_engine<float, 512, 6>", "backward"),
        ("convolve_common_bwd_data", "backward"),
        ("volta_sgemm_128x64_nt", None),
    ],
)
def test_kernels_names_say_which_gradient_they_compute(kernel, phase):
    assert gradient_of(kernel) == phase


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.json", b"{", "not valid JSON at line 1"),
        ("p.json", b"{}", "traceEvents: expected a list of events; got NoneType"),
        ("p.json", b"[]", "events: expected kernels, or operations of the processor; got none"),
        ("p.json", b"[" * 100_000, "cannot be read"),
        ("p.json", b"[" + b"1" * 5000 + b"]", "cannot be read: Exceeds the limit"),
        ("p.json", b'[{"ph": "X", "cat": "kernel", "ts": "a", "dur": 1}]', "0: ts: expected microseconds; got 'a'"),
        ("p.json", b'[{"ph": "X", "cat": "kernel", "ts": 1, "dur": -1}]', "dur: expected at least 0 microseconds; got"),
        ("p.json", b'[{"ph": "X", "cat": "kernel", "ts": NaN, "dur": 1}]', "ts: expected microseconds; got nan"),
        ("p.json", b'[{"ph": "X", "cat": "kernel", "ts": "NaN", "dur": 1}]', "ts: expected microseconds; got 'NaN'"),
        ("p.json", b'[{"ph": "X", "cat": "kernel", "ts": "sNaN", "dur": 1}]', "ts: expected microseconds; got 'sNaN'"),
        ("p.json", b'[3, {"ph": "X", "cat": "kernel", "name": "k", "ts": 1, "dur": 1}]',
         r"kernels: expected at least one that maps to a layer \(ranges named like layers, or --map\); got k 0.001 ms"),
        ("p.json.gz", b"\x1f\x8bjunk", "cannot be read"),
        ("p.nsys-rep", b"x", r"format: expected an export of it \(nsys export --type sqlite\); got nsys-rep itself"),
        ("p.bin", b"\0\0", r"format: expected a Chrome trace \(JSON\) or a SQLite export; got"),
        ("p.sqlite", b"SQLite format 3\0junk", "not a readable SQLite file"),
    ],
)  # fmt: skip
def test_files_that_are_no_profiles_are_refused(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(GpuTraceError, match=said):
        import_profile(tmp_path / name, MADE)


@pytest.mark.parametrize("odd", [None, [], {}, "x", True, -1, 1.5])
def test_odd_arguments_of_events_are_as_good_as_none(tmp_path, odd):
    profile = ChromeTrace()
    profile.add("user_annotation", "conv1", 0.0, 50.0)
    profile.kernel("a", 1.0, 10.0, 20.0)
    profile.add("kernel", "b", 40.0, 5.0, correlation=odd)
    profile.add("cpu_op", "AddBackward0", 60.0, 5.0, **{"Sequence number": odd})
    trace = import_profile(profile.write(tmp_path / "p.json"), MADE)
    assert by_label(trace) == {("conv1", "forward"): pytest.approx(20e-6), ("unmapped", "other"): pytest.approx(5e-6)}


def test_files_that_are_not_there_are_refused(tmp_path):
    missing = tmp_path / "none.json"
    for read in (detect_format, read_chrome, read_nsys):
        with pytest.raises(GpuTraceError, match=r"none\.json: no such file"):
            read(missing)
    with pytest.raises(GpuTraceError, match="cannot be read: Is a directory"):
        detect_format(tmp_path)


def spiking_step(torch, ranges):
    """A function that runs a real step of conv1, conv2, fc1 over two timesteps, its layers in ranges."""
    from torch.nn import functional

    from h2sim.train.lif import Neuron, fire

    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 1, 3, 3), (6, 4, 3, 3), (10, 6 * 36)]
    weights = [torch.nn.Parameter(torch.randn(shape, generator=generator) * 0.3) for shape in shapes]
    biases = [torch.nn.Parameter(torch.zeros(shape[0])) for shape in shapes]
    optimizer = torch.optim.Adam([*weights, *biases])
    inputs, labels = torch.rand((3, 1, 6, 6), generator=generator), torch.tensor([1, 2, 3])

    def step():
        optimizer.zero_grad()
        output = 0.0
        for _ in range(2):
            spikes = inputs
            for number in (0, 1):
                with ranges(f"conv{number + 1}"):
                    current = functional.conv2d(spikes, weights[number], biases[number], 1, 1)
                    spikes = fire(current, Neuron())
            with ranges("h2sim:fc1"):
                output = output + functional.linear(spikes.flatten(1), weights[2], biases[2])
        with ranges("h2sim:loss"):
            loss = functional.cross_entropy(output, labels)
        loss.backward()
        optimizer.step()

    return step


def test_a_real_profile_of_a_spiking_step_maps_whole(tmp_path):
    torch = pytest.importorskip("torch")
    from torch.profiler import ProfilerActivity, profile, record_function, schedule

    step = spiking_step(torch, record_function)
    plan = schedule(wait=0, warmup=1, active=3)
    path = tmp_path / "real.json.gz"
    saved = {"on_trace_ready": lambda done: done.export_chrome_trace(str(path))}
    with profile(activities=[ProfilerActivity.CPU], schedule=plan, acc_events=True, **saved) as running:
        for _ in range(4):
            step()
            running.step()
    read = read_chrome(path)
    trace = import_profile(path, MADE)
    found = by_label(trace)
    weighted = [(layer, phase) for layer in INPUTS for phase in ("forward", "backward", "weight_update")]
    assert set(weighted) <= set(found)
    other = {label for label in found if label[1] == "other"}
    assert {("loss", "other"), ("optimizer", "other"), ("gradient accumulation", "other")} <= other
    works = [work for work, _ in read.works]
    assert math.fsum(found.values()) * 3 == pytest.approx(sum(work.ns for work in works) / 1e9, rel=1e-9)
    assert found.get(("unmapped", "other"), 0.0) < 0.2 * math.fsum(found.values())
    assert trace.step.repeats == 3
    assert trace.device.name == "unknown processor"


def test_pytorch_computes_a_products_input_gradient_first(tmp_path):
    """The order that the rule for fc layers rests on, from a real profile with shapes."""
    torch = pytest.importorskip("torch")
    from torch.profiler import ProfilerActivity, profile, record_function

    step = spiking_step(torch, record_function)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as running:
        step()
    running.export_chrome_trace(str(tmp_path / "p.json"))
    events = json.loads((tmp_path / "p.json").read_text())["traceEvents"]
    outer = [e for e in events if e.get("name") == "AddmmBackward0"]
    products = [e for e in events if e.get("name") == "aten::mm"]
    assert len(outer) == 2
    for node in outer:
        inside = sorted(
            (e for e in products if node["ts"] <= e["ts"] < node["ts"] + node["dur"]), key=lambda e: e["ts"]
        )
        dims = [e["args"]["Input Dims"] for e in inside]
        # (N, F_out) @ (F_out, F_in), then (F_out, N) @ (N, F_in)
        assert dims == [[[3, 10], [10, 216]], [[10, 3], [3, 216]]]


def test_the_phases_of_a_profile_are_those_that_were_found(tmp_path):
    profile = ChromeTrace()
    profile.add("user_annotation", "conv1", 0.0, 50.0)
    profile.kernel("a", 1.0, 10.0, 20.0)
    assert import_profile(profile.write(tmp_path / "p.json"), MADE).phases == ("forward",)


def test_older_exports_name_their_categories_otherwise(tmp_path):
    profile = ChromeTrace()
    profile.add("user_annotation", "conv1", 0.0, 50.0)
    profile.kernel("a", 1.0, 10.0, 20.0, cat="Kernel")
    names = {"cuda_runtime": "Runtime"}
    for event in profile.events:
        event["cat"] = names.get(event["cat"], event["cat"])
    found = Counter(by_label(import_profile(profile.write(tmp_path / "p.json"), MADE)))
    assert found == {("conv1", "forward"): pytest.approx(20e-6)}


def mapped(tmp_path, profile, rules=()):
    return by_label(import_profile(profile.write(tmp_path / "p.json"), MADE, rules))


def test_a_rule_without_a_phase_leaves_it_to_the_kernels_name_and_its_operation(tmp_path):
    profile = ChromeTrace()
    profile.add("cpu_op", "MineBackward0", 0.0, 50.0)
    profile.kernel("mine_wgrad", 1.0, 60.0, 3.0)
    profile.kernel("mine_dgrad", 2.0, 70.0, 5.0)
    profile.kernel("mine_other", 3.0, 80.0, 7.0)
    profile.kernel("mine_wgrad", 60.0, 90.0, 11.0)  # in no backward pass
    (tmp_path / "rules.yaml").write_text("rules: [{kernel: ^mine_, layer: conv2}]\n")
    found = mapped(tmp_path, profile, load_rules(tmp_path / "rules.yaml", INPUTS))
    assert found == {
        ("conv2", "forward"): pytest.approx(11e-6),
        ("conv2", "backward"): pytest.approx(12e-6),
        ("conv2", "weight_update"): pytest.approx(3e-6),
    }


def test_the_backward_pass_of_what_a_forward_range_made_is_no_forward_pass(tmp_path):
    profile = ChromeTrace()
    profile.add("user_annotation", "conv2:forward", 0.0, 10.0)
    profile.add("cpu_op", "Fire", 1.0, 5.0, **{"Sequence number": 3})
    profile.kernel("ge", 2.0, 20.0, 2.0)
    profile.add("cpu_op", "FireBackward", 50.0, 10.0, 2, **{"Sequence number": 3})
    profile.kernel("mul", 51.0, 60.0, 5.0, 2)
    assert mapped(tmp_path, profile) == {
        ("conv2", "forward"): pytest.approx(2e-6), ("conv2", "backward"): pytest.approx(5e-6)
    }  # fmt: skip


def test_a_kernel_of_the_outer_operation_goes_with_the_inner_ones(tmp_path):
    profile = ChromeTrace()
    profile.add("user_annotation", "conv2", 0.0, 100.0)
    profile.add("cpu_op", "ConvolutionBackward0", 1.0, 90.0)
    profile.kernel("prepare", 2.0, 10.0, 3.0)  # before the operation that computes both gradients
    profile.add("cpu_op", "aten::convolution_backward", 5.0, 50.0)
    profile.kernel("dgrad", 6.0, 20.0, 5.0)
    profile.kernel("wgrad", 7.0, 30.0, 7.0)
    assert mapped(tmp_path, profile) == {
        ("conv2", "backward"): pytest.approx(8e-6), ("conv2", "weight_update"): pytest.approx(7e-6)
    }  # fmt: skip


def stepped(*spans):
    """ProfilerStep# ranges (start, duration), a kernel of 1 us launched 10 us into each."""
    profile = ChromeTrace()
    for number, (start, duration) in enumerate(spans):
        profile.add("user_annotation", f"ProfilerStep#{number}", start, duration)
        profile.add("user_annotation", "conv1", start + 1, 50.0)
        profile.kernel("k", start + 10, start + 20, 1.0)
    return profile


def test_a_step_holds_what_is_launched_from_its_start_on_and_before_its_end(tmp_path):
    profile = ChromeTrace()
    profile.add("user_annotation", "conv1", 0.0, 1000.0)
    profile.add("user_annotation", "ProfilerStep#1", 100.0, 100.0)
    profile.kernel("first", 100.0, 110.0, 2.0)
    profile.kernel("later", 200.0, 210.0, 4.0)
    assert mapped(tmp_path, profile) == {
        ("conv1", "forward"): pytest.approx(2e-6), ("outside steps", "other"): pytest.approx(4e-6)
    }  # fmt: skip


def test_the_step_is_the_median_of_the_steps_between_its_quartiles(tmp_path):
    profile = stepped((0.0, 900.0), (1000.0, 1400.0), (3000.0, 1000.0))
    step = import_profile(profile.write(tmp_path / "p.json"), MADE).step
    spread = (step.lower_quartile_seconds, step.seconds, step.upper_quartile_seconds)
    assert spread == pytest.approx((950e-6, 1000e-6, 1200e-6))


def test_kernels_are_counted_only_where_all_steps_have_as_many(tmp_path):
    profile = stepped((0.0, 900.0), (1000.0, 900.0))
    whole = import_profile(profile.write(tmp_path / "p.json"), MADE)
    assert [row.kernels for row in whole.rows] == [1]
    profile.kernel("k", 15.0, 40.0, 1.0)
    odd = import_profile(profile.write(tmp_path / "p.json"), MADE)
    assert [row.kernels for row in odd.rows] == [None]


def test_the_time_of_told_steps_ends_with_the_kernel_that_ends_last(tmp_path):
    profile = ChromeTrace()
    profile.add("user_annotation", "conv1", 0.0, 50.0)
    profile.kernel("long", 1.0, 10.0, 500.0)
    profile.kernel("short", 2.0, 20.0, 1.0)  # launched last, done long before
    trace = import_profile(profile.write(tmp_path / "p.json"), Made(network="three", inputs=INPUTS, batch=4, steps=1))
    assert trace.step.seconds == pytest.approx(509e-6)

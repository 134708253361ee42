"""Recording: the step computes the trainer's gradients, marks divide it rightly, clocks on fakes."""

from __future__ import annotations

import sys
import types

import pytest

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from h2sim.errors import GpuTraceError  # noqa: E402
from h2sim.gpu import Device, recording  # noqa: E402
from h2sim.gpu.clock import CpuClock, CudaClock, Marks, timed  # noqa: E402
from h2sim.gpu.files import from_csv, to_csv  # noqa: E402
from h2sim.gpu.meter import NvmlMeter  # noqa: E402
from h2sim.gpu.network import Marked, Plain  # noqa: E402
from h2sim.gpu.recording import record  # noqa: E402
from h2sim.gpu.step import TrainingStep, Workload  # noqa: E402
from h2sim.gpu.targets import Target, cpu_target, cuda_target  # noqa: E402
from h2sim.gpu.timed import Plan, measure_step, rows_of  # noqa: E402
from h2sim.train.lif import Neuron, fire  # noqa: E402
from tests.helpers.gpu_fakes import FakeMeter  # noqa: E402
from tests.helpers.tiny import binary_layers, tiny_layers  # noqa: E402

LAYERS = {"analog, residual, strided, pooled": tiny_layers, "spikes": binary_layers}


def workload(layers=tiny_layers, implementation="vanilla", neuron=None, timesteps=4, batch=3) -> Workload:
    return Workload(
        name="tiny",
        layers=tuple(layers()),
        neuron=neuron or Neuron(),
        timesteps=timesteps,
        batch=batch,
        implementation=implementation,
    )


def gradients_of(training: TrainingStep) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in training.network.named_parameters()}


class Ticks:
    """A clock that counts its marks: an hour hand for exact sums."""

    def __init__(self) -> None:
        self.count = 0

    def mark(self) -> int:
        self.count += 1
        return self.count

    def wait(self) -> None: ...

    def seconds(self, earlier: int, later: int) -> float:
        return float(later - earlier)


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("implementation", ["vanilla", "layerwise"])
@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("detach_reset", [False, True])
def test_every_way_to_run_the_step_gives_the_trainers_gradients(layers, implementation, marked, detach_reset):
    neuron = Neuron(decay=0.5, surrogate_scale=1.5, detach_reset=detach_reset)
    training = TrainingStep(workload(layers, implementation, neuron, timesteps=5, batch=4), "cpu", torch.float64)
    ops = Marked(training.network, Marks(Ticks())) if marked else Plain(training.network)
    training.gradients(ops)
    found = gradients_of(training)
    training.network.zero_grad(set_to_none=True)
    training.objective.value(training.network(training.inputs, 5), training.labels).backward()
    expected = gradients_of(training)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(found[name], gradient, rtol=1e-11, atol=1e-13)


def test_the_vanilla_step_gives_the_trainers_gradients_in_float32_too():
    training = TrainingStep(workload(timesteps=5, batch=4), "cpu")
    training.gradients(Plain(training.network))
    found = gradients_of(training)
    training.network.zero_grad(set_to_none=True)
    training.objective.value(training.network(training.inputs, 5), training.labels).backward()
    for name, gradient in gradients_of(training).items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


class Watch(TorchDispatchMode):
    """Notes under which label each operation runs; each takes one second."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[tuple[str, str], str, tuple]] = []
        self.now, self.label = 0, ("", "")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.now += 1
        self.seen.append((self.label, func._schema.name, args))
        return func(*args, **(kwargs or {}))

    # a clock, too
    def mark(self) -> int:
        return self.now

    def wait(self) -> None: ...

    def seconds(self, earlier: int, later: int) -> float:
        return float(later - earlier)


class WatchedMarks(Marks):
    def __call__(self, layer, phase):
        self.clock.label = (layer, phase)
        super().__call__(layer, phase)


@pytest.mark.parametrize("implementation", ["vanilla", "layerwise"])
def test_marks_put_each_operation_to_its_layer_and_phase(implementation):
    training = TrainingStep(workload(implementation=implementation), "cpu")
    with Watch() as watch:
        marks = WatchedMarks(watch)
        training.step(Marked(training.network, marks))
        whole, parts = marks.end()
    assert whole == watch.now == sum(parts.values())
    times = 4 if implementation == "vanilla" else 1
    named = {"weight": [False, True, True], "input": [True, False, False]}
    gradients = [(label, args[-1]) for label, name, args in watch.seen if name == "aten::convolution_backward"]
    for layer in ("encode", "block", "down"):
        assert gradients.count(((layer, "weight_update"), named["weight"])) == times
        assert gradients.count(((layer, "backward"), named["input"])) == (0 if layer == "encode" else times)
    assert len(gradients) == 5 * times
    forward = [label for label, name, _ in watch.seen if name == "aten::convolution"]
    assert sorted(forward) == sorted([(name, "forward") for name in ("encode", "block", "down")] * times)
    pools = [label for label, name, _ in watch.seen if name == "aten::avg_pool2d_backward"]
    assert pools == [("shrink", "backward")] * times
    products = [label for label, name, _ in watch.seen if name == "aten::mm"]
    assert sorted(products) == sorted([("out", "weight_update"), ("out", "backward")] * times)
    adam = {label for label, name, _ in watch.seen if "sqrt" in name}
    assert adam == {("optimizer", "other")}


def test_adding_up_weight_gradients_over_timesteps_is_weight_update_and_input_gradients_backward():
    training = TrainingStep(workload(), "cpu")
    with Watch() as watch:
        training.gradients(Marked(training.network, WatchedMarks(watch)))
    shapes = {tuple(p.shape): name.split(".")[1] for name, p in training.network.weights.named_parameters("weights")}
    added = [
        (label, tuple(args[0].shape))
        for label, name, args in watch.seen
        if name in ("aten::add", "aten::add_") and len(args) > 1 and isinstance(args[1], torch.Tensor)
    ]
    weights = [(label, shapes[shape]) for label, shape in added if shape in shapes]
    assert len(weights) >= 4 * 3  # 4 layers, 4 timesteps
    assert all(label == (layer, "weight_update") for label, layer in weights)


def test_marks_divide_the_whole_step():
    clock = Ticks()
    marks = Marks(clock)
    marks("a", "forward")
    marks("b", "forward")
    marks("a", "forward")
    assert marks.end() == (3.0, {("a", "forward"): 2.0, ("b", "forward"): 1.0})
    assert timed(clock, lambda: None) == 1.0


def test_recording_on_the_processor_writes_every_layer_and_phase():
    heard = []
    trace = record(workload(), cpu_target(), Plan(1, 3), command="typed", report=lambda *said: heard.append(said))
    assert heard == [
        ("warm-up", 1, 1),
        *(("steps", i, 3) for i in (1, 2, 3)),
        *(("marked steps", i, 3) for i in (1, 2, 3)),
    ]
    phases = {(row.layer, row.phase) for row in trace.rows}
    weighted = {"encode", "block", "down", "out"}
    assert {(name, "weight_update") for name in weighted} < phases
    assert {(layer["name"], phase) for layer in tiny_layers() for phase in ("forward", "backward")} < phases
    assert {row.layer for row in trace.rows if row.phase == "other"} == {"data", "loss", "optimizer"}
    assert len(phases) == 4 + 2 * 6 + 3
    assert (trace.origin, trace.network, trace.samples, trace.step.repeats) == ("measured", "tiny", 3, 3)
    assert trace.step.lower_quartile_seconds <= trace.step.seconds <= trace.step.upper_quartile_seconds
    assert trace.step.marked_seconds > 0
    assert trace.software["torch"] == torch.__version__
    assert trace.energy is None
    assert "no energy: not measured on a processor; NVML measures GPUs alone" in trace.notes
    assert from_csv(to_csv(trace), "again") == trace
    trace.check_layers([layer["name"] for layer in tiny_layers()])


def dotted_layers():
    """As a residual network names its layers; one name is what another becomes without its dot."""
    names = {"block": "block.conv", "join": "block:conv"}
    renamed = {name: names.get(name, name) for name in ("input", *(layer["name"] for layer in tiny_layers()))}
    return [
        {**layer, "name": renamed[layer["name"]], "inputs": [renamed[source] for source in layer["inputs"]]}
        for layer in tiny_layers()
    ]


def test_rows_carry_the_networks_names_where_torch_takes_others():
    trace = record(workload(dotted_layers), cpu_target(), Plan(0, 1))
    names = [layer["name"] for layer in dotted_layers()]
    assert {"block.conv", "block:conv"} < {row.layer for row in trace.rows} == {*names, "data", "loss", "optimizer"}
    phases = [row.phase for row in trace.rows if row.layer == "block.conv"]
    assert phases == ["forward", "backward", "weight_update"]


def test_a_network_that_ends_in_a_convolution_is_recorded_too():
    trace = record(workload(lambda: tiny_layers()[:1]), cpu_target(), Plan(0, 1))
    assert [row.phase for row in trace.rows if row.layer == "encode"] == ["forward", "backward", "weight_update"]


def test_rows_are_in_the_networks_order_with_medians():
    parts = [{("b", "forward"): s, ("a", "backward"): 2 * s, ("loss", "other"): 1.0} for s in (1.0, 3.0, 2.0, 5.0)]
    rows = rows_of(parts, ["a", "b"])
    assert [(r.layer, r.seconds, r.lower_quartile_seconds, r.upper_quartile_seconds) for r in rows] == [
        ("a", 5.0, 3.5, 7.0),
        ("b", 2.5, 1.75, 3.5),
        ("loss", 1.0, 1.0, 1.0),
    ]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: Plan(repeats=0), "record: repeats: expected at least 1"),
        (lambda: Plan(energy_seconds=0.0), "record: energy_seconds: expected above 0, at most 86400; got 0.0"),
        (lambda: Plan(energy_seconds=86_401.0), "record: energy_seconds: expected above 0, at most 86400; got 86401.0"),
        (lambda: workload(implementation="lazy"), "implementation: expected one of vanilla, layerwise, .*; got 'lazy'"),
    ],
)
def test_wrong_plans_are_refused(call, said):
    with pytest.raises(GpuTraceError, match=said):
        call()


def test_weights_that_are_no_numbers_any_more_are_refused():
    training = TrainingStep(workload(), "cpu")
    with torch.no_grad():
        training.network.weights["down"][0] = float("nan")
    with pytest.raises(GpuTraceError, match=r"tiny: weights.down: expected finite weights after the steps; got NaN or"):
        training.check()


def test_too_little_memory_is_one_line(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(recording, "TrainingStep", full)
    with pytest.raises(GpuTraceError, match="--batch: expected memory for batch 3 over 4 timesteps; got less; try a"):
        record(workload(), cpu_target(), Plan(0, 1))


def test_without_a_gpu_recording_on_one_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(GpuTraceError, match=r"^device: expected a CUDA GPU.*; got none \(device cpu times this"):
        cuda_target()


def test_a_recording_with_a_meter_holds_the_energy_of_a_step():
    fake = FakeMeter(watts=50.0)
    target = Target(
        name="cpu",
        clock=CpuClock(),
        device=Device(name="Fake GPU"),
        meter=fake,
        no_meter="",
        software={"driver": "1.2"},
    )
    trace = record(workload(), target, Plan(0, 1, energy_seconds=1e-9), timing=fake.looked_at())
    assert trace.energy.measured_steps == 1
    assert trace.energy.idle_w == 50.0
    assert trace.conditions.throttled == ("software power cap",)
    assert trace.software["driver"] == "1.2"
    assert not any("no energy" in note for note in trace.notes)


def test_a_recording_without_energy_says_why():
    fake = FakeMeter(watts=None, counts=False)
    target = Target(name="cpu", clock=CpuClock(), device=Device(name="Fake GPU"), meter=fake, no_meter="", software={})
    trace = record(workload(), target, Plan(0, 1, energy_seconds=1e-9), timing=fake.looked_at())
    assert trace.energy is None
    assert "no energy: NVML: this GPU gives neither energy nor power" in trace.notes


def test_cuda_events_give_seconds(fake_cuda):
    clock = CudaClock("cuda:0")
    first, second = clock.mark(), clock.mark()
    clock.wait()
    assert clock.seconds(first, second) == 1e-3


def test_a_gpu_is_described_as_it_and_its_driver_say(fake_cuda):
    target = cuda_target()
    assert (target.name, target.device.name, target.device.power_w) == ("cuda:0", "Fake V100", 300.0)
    assert target.device.memory_bandwidth_bytes_per_s == pytest.approx(898.048e9)
    assert (target.software["driver"], target.software["compute_capability"]) == ("580.1", "7.0")
    assert isinstance(target.meter, NvmlMeter)


def test_a_gpu_without_nvml_still_gives_times(fake_cuda, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    target = cuda_target()
    assert (target.meter, target.no_meter) == (None, "no pynvml: pip install nvidia-ml-py")
    assert target.device.power_w is None


def test_the_most_memory_held_is_torchs(fake_cuda):
    target = Target(
        name="cuda:0", clock=CpuClock(), device=Device(name="GPU"), meter=None, no_meter="none", software={}
    )
    training = types.SimpleNamespace(step=lambda: None, prepare=lambda: None)
    found = measure_step(training, target, Plan(0, 2), None, marked=False)
    assert (len(found.whole), found.peak_memory_bytes, found.step(Plan(0, 2)).marked_seconds) == (2, 12_345, None)


def test_a_membrane_at_its_threshold_fires():
    """0.5 is held exactly: eq. 2.3 fires from the threshold on."""
    neuron = Neuron(threshold=0.5, window=(0.0, 1.0))
    fired = fire(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64), neuron)
    assert fired.tolist() == [0.0, 1.0, 1.0]

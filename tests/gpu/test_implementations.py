"""Every implementation of the training step: the reference's loss and gradients, what it keeps, what it cannot do."""

from __future__ import annotations

import contextlib
import types

import pytest

torch = pytest.importorskip("torch")

from h2sim.cli.implementations import IMPLEMENTATIONS  # noqa: E402
from h2sim.errors import GpuTraceError  # noqa: E402
from h2sim.gpu import implementations as ways  # noqa: E402
from h2sim.gpu import spiking_jelly  # noqa: E402
from h2sim.gpu.baselines import RUN_BY, check_can_run  # noqa: E402
from h2sim.gpu.clock import Marks  # noqa: E402
from h2sim.gpu.equality import TOLERANCE, checked_values, coarse, compared, relative_difference  # noqa: E402
from h2sim.gpu.network import Marked, Plain  # noqa: E402
from h2sim.gpu.recording import record  # noqa: E402
from h2sim.gpu.step import TrainingStep, Workload  # noqa: E402
from h2sim.gpu.targets import cpu_target  # noqa: E402
from h2sim.gpu.timed import Plan  # noqa: E402
from h2sim.neuron import RESETS, Neuron  # noqa: E402
from tests.gpu.test_record import LAYERS, Ticks, gradients_of  # noqa: E402
from tests.helpers.tiny import binary_layers, tiny_layers  # noqa: E402

DEVICES = ["cpu", *(["cuda:0"] if torch.cuda.is_available() else [])]
HERE = [name for name, kind in RUN_BY.items() if kind.lacks([Neuron()], DEVICES[-1]) is None]
NEURONS = {
    "source": Neuron(),
    "detached, IF, soft": Neuron(reset="subtract", detach_reset=True, decay=1.0),
    "triangle, above": Neuron(surrogate="triangle", fires_at="greater", decay=0.5),
}


@pytest.fixture(autouse=True)
def traced_only(monkeypatch):
    """torch.compile traces a graph as always, and runs it operation by operation."""
    monkeypatch.setattr(ways, "COMPILER", "aot_eager")


def training_of(implementation, layers=tiny_layers, neuron=NEURONS["source"], device="cpu", dtype=torch.float64):
    work = Workload(
        name="tiny", layers=tuple(layers()), neuron=neuron, timesteps=4, batch=3, implementation=implementation
    )
    return TrainingStep(work, device, dtype)


def jelly(name):
    return name.startswith("spikingjelly")


# tracing takes a second each
CASES = [
    pytest.param(name, neuron, id=f"{name}, {kind}")
    for name in HERE
    for kind, neuron in NEURONS.items()
    if not hasattr(RUN_BY[name], "kernels") and (name != "compiled" or kind == "source")
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize(("name", "neuron"), CASES)
def test_an_implementation_gives_the_trainers_gradients(name, layers, neuron, device):
    training = training_of(name, layers, neuron, device)
    for ops in [Plain(training.network), *([Marked(training.network, Marks(Ticks()))] if training.way.marked else [])]:
        training.gradients(ops)
        found = gradients_of(training)
        training.network.zero_grad(set_to_none=True)
        training.objective.value(training.network(training.inputs, 4), training.labels).backward()
        for key, gradient in gradients_of(training).items():
            assert gradient.abs().max() > 0, key
            torch.testing.assert_close(found[key], gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("reset", RESETS)
def test_vanilla_knows_every_reset(reset):
    neuron = Neuron(reset=reset, decay=0.9)
    assert checked_values(training_of("vanilla", neuron=neuron)).values.gradient_difference < 1e-12


@pytest.mark.parametrize("name", ["checkpoint", "chapter4"])
def test_what_recomputes_keeps_less_than_the_reference(name):
    kept = {}
    for each in ("layerwise", name):
        storages: dict[int, int] = {}

        def pack(value, storages=storages):
            storages[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
            return value

        training = training_of(each)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            output = training.way.output(Plain(training.network), training.inputs)
        own = {p.untyped_storage().data_ptr() for p in training.network.parameters()}
        kept[each] = sum(size for place, size in storages.items() if place not in own)
        del output
    assert kept[name] < 0.75 * kept["layerwise"]


def test_a_checkpoints_second_forward_pass_stands_in_the_forward_rows():
    entered = []
    training = training_of("checkpoint")
    ops = Marked(training.network, Marks(Ticks()))
    enter, ops.enter = ops.enter, lambda layer: entered.append(layer["name"]) or enter(layer)
    output = training.way.output(ops, training.inputs)
    first = list(entered)
    output.sum().backward()
    again = entered[len(first) :]
    # block reads spikes that join reads too, so that they are kept; convolutions of what is kept run once
    assert set(again) == {"encode", "join", "down", "shrink", "out"}
    assert (first.count("encode"), again.count("encode")) == (2, 1)
    _, parts = ops.marks.end()
    assert {"forward", "backward", "weight_update"} == {phase for _, phase in parts}


def test_the_work_of_a_unit_is_divided_among_its_neurons_and_its_reader():
    trace = record(training_of("chapter4").workload, cpu_target(), Plan(1, 2))
    phases = {(row.layer, row.phase) for row in trace.rows}
    assert {(name, "weight_update") for name in ("encode", "block", "down", "out")} <= phases
    assert {(layer["name"], phase) for layer in tiny_layers() for phase in ("forward", "backward")} <= phases
    assert trace.values.equal


def test_the_marks_of_a_unit_come_in_the_order_of_its_work():
    training = training_of("chapter4", binary_layers)
    ops, seen = Marked(training.network, Marks(Ticks())), []
    ops.begin = lambda name, phase: seen.append((name, phase))
    training.gradients(ops)
    assert seen == [
        ("first", "forward"), ("out", "forward"),
        ("first", "forward"), ("out", "weight_update"), ("out", "backward"), ("first", "backward"),
    ]  # fmt: skip


def test_a_compiled_step_has_no_rows_warms_up_and_says_what_compiling_took():
    trace = record(training_of("compiled").workload, cpu_target(), Plan(0, 2))
    assert trace.rows == ()
    assert (trace.step.warm_up, trace.step.marked_seconds) == (3, None)
    assert trace.values.equal
    assert any("compiled in the first step, which took" in note for note in trace.notes)
    assert any("rows: none" in note for note in trace.notes)


# --- equal values ---


def test_a_trace_says_whether_its_values_are_the_references():
    found = {name: checked_values(training_of(name, dtype=torch.float32)).values for name in ("layerwise", "vanilla")}
    assert found["layerwise"].same_bits
    assert not found["vanilla"].same_bits  # sums over timesteps are rounded in another order
    assert found["vanilla"].equal
    assert found["vanilla"].loss_difference <= found["vanilla"].tolerance == TOLERANCE


@pytest.mark.skipif("spikingjelly" not in HERE, reason="needs SpikingJelly")
def test_another_surrogate_is_found_out(monkeypatch):
    training = training_of("spikingjelly", dtype=torch.float32)
    monkeypatch.setattr(
        spiking_jelly.SpikingJelly, "surrogate", spiking_jelly.SpikingJellyTriton.surrogate
    )  # on the CPU its kernels' formulas in torch
    values = checked_values(training).values
    assert not values.equal
    assert values.loss_difference == 0
    assert values.gradient_difference > 0.01
    assert values.told.startswith("not layerwise's: loss 0.0e+00 and gradients ")


def test_the_check_leaves_weights_and_samples_as_they_were():
    training = training_of("vanilla", dtype=torch.float32)
    before = [p.detach().clone() for p in training.network.parameters()]
    inputs = training.inputs
    checked_values(training)
    assert training.inputs is inputs
    for parameter, value in zip(training.network.parameters(), before, strict=True):
        assert torch.equal(parameter, value)
        assert parameter.grad is None


def test_sums_of_coarse_values_do_not_depend_on_their_order():
    weights, samples = coarse(torch.randn(4096) / 64), coarse(torch.rand(4096))
    assert len(weights.unique()) > 100
    assert float((weights - torch.clamp(weights, -1, 1)).abs().max()) == 0
    products = weights * samples
    order = torch.randperm(4096)
    assert products.sum() == products[order].sum() == products.double().sum()
    assert torch.equal(coarse(torch.zeros(3)), torch.zeros(3))


def test_differences_are_relative_to_the_reference():
    one, far, none = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5]), torch.zeros(2)
    assert relative_difference([one], [one]) == 0
    assert relative_difference([far], [one]) == pytest.approx(0.1)
    assert relative_difference([one], [none]) == 5.0
    assert not compared([one[:1], far], [one[:1], one]).equal
    assert not compared([far[1:], one], [one[1:], one]).equal


def test_without_room_for_the_reference_values_are_not_checked(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ways.Layerwise, "output", full)
    trace = record(training_of("vanilla").workload, cpu_target(), Plan(0, 1))
    assert trace.values is None
    assert "values not checked: memory has no room for layerwise" in trace.notes


# --- what cannot run ---


def test_every_name_has_what_runs_it():
    assert list(RUN_BY) == list(IMPLEMENTATIONS)


@pytest.mark.parametrize(
    ("name", "neuron", "device", "said"),
    [
        ("graph", Neuron(), "cpu", "--implementation graph: expected --device cuda; got cpu"),
        (
            "spikingjelly-triton",
            Neuron(),
            "cpu",
            "--implementation spikingjelly-triton: expected --device cuda; got cpu",
        ),
        (
            "spikingjelly-cuda",
            Neuron(fires_at="greater"),
            "cuda:0",
            "neurons that fire at their threshold; got neurons",
        ),
        (
            "spikingjelly",
            Neuron(reset="none"),
            "cpu",
            "reset zero or subtract, decay above 0 and at most 1; got Neuron",
        ),
    ],
)
def test_what_cannot_run_is_one_line(name, neuron, device, said, monkeypatch):
    monkeypatch.setattr(spiking_jelly, "find_spec", lambda _: True)
    with pytest.raises(GpuTraceError, match=said):
        check_can_run([training_workload(name, neuron)], device)


def training_workload(name, neuron=NEURONS["source"]):
    return Workload(name="tiny", layers=tuple(tiny_layers()), neuron=neuron, timesteps=4, batch=3, implementation=name)


def test_a_library_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setattr(spiking_jelly, "find_spec", lambda _: None)
    with pytest.raises(
        GpuTraceError, match=r"expected the package spikingjelly \(pip install 'h2sim\[export\]'\); got"
    ):
        check_can_run([training_workload("vanilla"), training_workload("spikingjelly")], "cpu")


@pytest.mark.skipif("spikingjelly" not in HERE, reason="needs SpikingJelly")
def test_kernels_that_spikingjelly_does_not_take_are_not_timed_under_their_name(monkeypatch):
    taken = {"lif": "triton", "if": "torch"}

    def chosen(kind, device):
        assert device == torch.device("cuda:0")
        if kind not in taken:
            raise RuntimeError("No available sj_if CUDA implementation.\nMore.")
        return {"implementation": taken[kind]}

    monkeypatch.setattr("spikingjelly.activation_based.functional.neuron_implementation", chosen)
    made, leaky, whole = RUN_BY["spikingjelly-triton"], Neuron(), Neuron(decay=1.0)
    assert made.lacks([leaky], "cuda:0") is None
    wanted, got = made.lacks([leaky, whole], "cuda:0")
    assert "(SJ_IF_CUDA_IMPLEMENTATION=triton)" in wanted
    assert got == "torch"
    del taken["if"]
    assert made.lacks([whole], "cuda:0")[1] == "No available sj_if CUDA implementation."
    assert RUN_BY["spikingjelly-cuda"].lacks([leaky], "cuda:0")[1] == "triton"


def test_formulas_cannot_run_where_the_user_has_chosen_kernels(monkeypatch):
    monkeypatch.setattr(spiking_jelly, "find_spec", lambda _: True)
    monkeypatch.setenv("SJ_LIF_CUDA_IMPLEMENTATION", "triton")
    wanted, got = RUN_BY["spikingjelly"].lacks([Neuron()], "cuda:0")
    assert wanted.startswith("SJ_LIF_CUDA_IMPLEMENTATION=auto, for its kernels")
    assert got == "triton"
    assert RUN_BY["spikingjelly"].lacks([Neuron()], "cpu") is None
    assert RUN_BY["spikingjelly"].lacks([Neuron(decay=1.0)], "cuda:0") is None


def test_a_compiler_that_fails_is_one_line(monkeypatch):
    def without(*_):
        raise RuntimeError("No working C++ compiler found\nand more")

    monkeypatch.setattr(ways, "COMPILER", without)
    with pytest.raises(
        GpuTraceError, match=r"compiled: expected torch.compile to make code here; got .*C\+\+ compiler"
    ) as caught:
        record(training_of("compiled").workload, cpu_target(), Plan(0, 1))
    assert len(str(caught.value).splitlines()) == 1


# --- the graph, on a fake of CUDA that runs what was captured again ---


class FakeGraph:
    """Runs the captured pass again where a GPU would replay it."""

    def __init__(self):
        self.replays = 0
        self.pass_ = None

    def replay(self):
        self.replays += 1
        for parameter in self.parameters:
            parameter.grad = None
        loss = self.pass_()
        self.loss.copy_(loss)
        for held, parameter in zip(self.grads, self.parameters, strict=True):
            held.copy_(parameter.grad)


@pytest.fixture
def fake_graphs(monkeypatch):
    """As much of torch.cuda as a capture asks for."""
    made = []
    nothing = types.SimpleNamespace(wait_stream=lambda _: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: nothing)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: nothing)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: made.append(FakeGraph()) or made[-1])
    monkeypatch.setattr(torch.cuda, "graph", lambda _: contextlib.nullcontext())
    capture = ways.Graph._capture

    def watched(self, inputs, labels, objective):
        capture(self, inputs, labels, objective)
        graph = made[-1]
        graph.parameters, graph.loss = list(self.network.parameters()), self._loss
        graph.grads = [grad for _, grad in self._grads]
        graph.pass_ = lambda: ways.Vanilla.gradients(self, Plain(self.network), self._inputs, self._labels, objective)

    monkeypatch.setattr(ways.Graph, "_capture", watched)
    return made


def test_a_graph_is_captured_once_and_replayed_on_each_batch(fake_graphs):
    training, other = training_of("graph"), training_of("vanilla")
    for step in range(3):
        training.step()
        other.step()
        for ours, theirs in zip(training.network.parameters(), other.network.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
        training.inputs = other.inputs = torch.rand_like(training.inputs) + step
    assert [graph.replays for graph in fake_graphs] == [3]


def test_a_graphs_values_are_checked_on_its_first_replay(fake_graphs):
    assert checked_values(training_of("graph")).values.equal

"""A user's own model, timed: rows by the trace's layers, parts that add up, the model as it was, refusals of a line."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import h2sim  # noqa: E402
from h2sim import export  # noqa: E402
from h2sim.errors import GpuTraceError, OutputError  # noqa: E402
from h2sim.export.places import places_of  # noqa: E402
from h2sim.export.state import as_found  # noqa: E402
from h2sim.gpu import Plan, load_gpu_trace, record  # noqa: E402
from h2sim.gpu.clock import CpuClock, CudaClock  # noqa: E402
from h2sim.gpu.marker import Marker  # noqa: E402
from h2sim.gpu.model_step import ModelStep, placed  # noqa: E402
from h2sim.gpu.own import Asked, timed_model  # noqa: E402
from h2sim.gpu.targets import Target, cpu_target  # noqa: E402
from h2sim.gpu.trace import Device  # noqa: E402
from tests.gpu.test_record import Ticks, Watch, WatchedMarks  # noqa: E402
from tests.helpers.gpu_fakes import FakeMeter  # noqa: E402
from tests.helpers.models import Lif, Loop, fire_rectangle, mean_loss, spikes  # noqa: E402
from tests.helpers.own_models import OWN, TARGETS, Own, by_hand  # noqa: E402

QUICK = Plan(0, 1)
CPU = torch.device("cpu")


@pytest.fixture(params=OWN, scope="module")
def own(request) -> Own:
    return OWN[request.param]()


def step_of(own: Own, **options) -> ModelStep:
    places = places_of(own.model, own.inputs, own.forward)
    return ModelStep(*own.arguments, device=CPU, places=places.places, forward=own.forward, **options)


def state_of(model: nn.Module):
    """What a user could see of a model."""
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), m.training, sorted(vars(m))) for m in model.modules()]
    return tensors, hooks, [p.grad for p in model.parameters()]


def assert_as_before(model: nn.Module, before) -> None:
    tensors, hooks, grads = state_of(model)
    assert (hooks, [g is None for g in grads]) == (before[1], [g is None for g in before[2]])
    for name, value in tensors.items():
        assert torch.equal(value, before[0][name]), name


def test_rows_have_the_names_of_the_traces_layers_and_the_model_is_as_it_was(own):
    trace = export.trace(*own.arguments, forward=own.forward, window_threshold=0.01)
    names = [layer["name"] for layer in trace.meta["layers"]]
    before, drawn = state_of(own.model), torch.random.get_rng_state()
    timed = record(*own.arguments, forward=own.forward, device="cpu", plan=QUICK)
    assert_as_before(own.model, before)
    assert torch.equal(torch.random.get_rng_state(), drawn)
    rows = {row.layer for row in timed.rows if row.phase != "other"}
    assert rows == set(names)
    timed.check_layers(names)
    weighted = {layer["name"] for layer in trace.meta["layers"] if layer["kind"] in ("conv", "fc", "encode")}
    assert {row.layer for row in timed.rows if row.phase == "weight_update"} == weighted
    assert weighted <= {row.layer for row in timed.rows if row.phase == "forward"}
    assert (timed.samples, timed.timesteps, timed.network) == (3, 4, type(own.model).__name__)
    assert timed.network == trace.meta["network"]


def test_the_parts_of_a_step_add_up_to_it_exactly(own):
    with as_found(own.model):
        step = step_of(own)
        step.prepare()
        whole, parts = step.marked_step(Ticks())
    assert whole == sum(parts.values())
    assert {"data", "loss", "optimizer"} < {layer for layer, _ in parts}


def test_marks_change_no_gradient(own):
    with as_found(own.model):
        step, found = step_of(own), []
        for run in (step.step, lambda: step.marked_step(CpuClock())):
            step.prepare()
            torch.manual_seed(5)
            run()
            found.append([p.grad.clone() for p in own.model.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1]) > 0
    for plain, marked in zip(*found, strict=True):
        torch.testing.assert_close(marked, plain, rtol=1e-5, atol=1e-7)


def watched(own: Own):
    """(label, operation, arguments) of each operation of a marked step."""
    with as_found(own.model):
        step = step_of(own)
        step.prepare()
        with Watch() as watch:
            marks = WatchedMarks(watch)
            step._marked(Marker(step.places, marks), marks)
    return watch.seen


def test_each_operation_stands_in_its_layer_and_phase():
    """Two convolutions of one's own, one of two groups, a neuron each, a sum written in place: by operation."""
    seen = watched(by_hand())
    convolved = [label for label, name, _ in seen if name == "aten::convolution"]
    assert convolved == 4 * [("net.0.conv1", "forward"), ("net.0.conv2", "forward")]
    gradients = [(label, args[-1]) for label, name, args in seen if name == "aten::convolution_backward"]
    weight, of_input = [False, True, True], [True, False, False]
    assert gradients == 4 * [
        (("net.0.conv2", "weight_update"), weight),
        (("net.0.conv2", "backward"), of_input),
        (("net.0.conv1", "weight_update"), weight),
    ]
    sums = {label for label, name, _ in seen if name == "aten::add_"}
    assert ("between layers", "other") in sums
    fired = {label for label, name, _ in seen if name == "aten::ge"}
    assert fired == {("net.0.conv1", "forward"), ("net.0.lif2", "forward")}
    windows = {label for label, name, _ in seen if name == "aten::lt"}  # of the surrogate's derivative
    assert windows == {("net.0.conv1", "backward"), ("net.0.lif2", "backward")}


def test_operations_and_bytes_by_hand():
    """fc of 12 to 3, 3 samples, 4 timesteps: 2 * 12 * 3 * 3 * 4 operations in each product."""
    model = Loop(nn.Linear(12, 3), Lif())
    timed = record(model, spikes(12), TARGETS, mean_loss, device="cpu", plan=QUICK,
                   about_device={"peak_flops_per_s": 1e3, "memory_bandwidth_bytes_per_s": 1e12})  # fmt: skip
    rows = {row.phase: row for row in timed.rows if row.layer == "net.0"}
    assert [rows[phase].flops for phase in ("forward", "weight_update", "backward")] == [864, 864, None]
    weights, read, sent = 4 * (36 + 3), 4 * 36, 4 * 9
    assert rows["forward"].bytes == 4 * (read + sent + weights + 2 * sent)  # the last: what the neuron reads and sends
    assert rows["weight_update"].bytes == 4 * (sent + read + weights)
    assert rows["backward"].bytes == 4 * (3 * sent)  # the neuron's; the product's own input needs no gradient
    share = rows["forward"].roof_share(timed.device)
    assert share == pytest.approx(0.864 / rows["forward"].seconds)


def test_the_update_runs_on_copies_with_the_users_settings():
    own = by_hand()
    before = state_of(own.model)
    optimizer = torch.optim.SGD(own.model.parameters(), lr=0.5, momentum=0.9)
    step = step_of(own, optimizer=optimizer)
    group = step.update.param_groups[0]
    assert (type(step.update), group["lr"], group["momentum"]) == (torch.optim.SGD, 0.5, 0.9)
    with as_found(own.model):
        step.prepare()
        step.step()
    assert all(not torch.equal(copy, parameter) for _, parameter, copy in step.copies)
    assert not optimizer.state
    assert_as_before(own.model, before)


def test_a_model_that_raises_is_as_it_was_too():
    own = by_hand()

    class Fails:
        calls = 0

        def __call__(self, output, targets):
            Fails.calls += 1
            if Fails.calls == 3:  # in a marked step: hooks and split products are in place
                raise RuntimeError("no more")
            return mean_loss(output, targets)

    before, numbers = state_of(own.model), (random.getstate(), np.random.get_state()[1].tolist())
    with pytest.raises(RuntimeError, match="no more"):
        record(own.model, own.inputs, own.targets, Fails(), device="cpu", plan=QUICK)
    assert_as_before(own.model, before)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == numbers


def test_a_model_that_no_trace_holds_is_timed_by_its_modules_paths():
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(16, 3))
    timed = record(model, torch.rand(5, 2, 6), torch.arange(5) % 3, mean_loss, device="cpu", plan=QUICK)
    assert {(row.layer, row.phase) for row in timed.rows if row.phase != "other"} == {
        ("0", "forward"), ("0", "backward"), ("1", "forward"), ("1", "backward"),
        ("3", "forward"), ("3", "backward"), ("3", "weight_update"),
    }  # fmt: skip
    assert (timed.samples, timed.timesteps) == (5, None)
    notes = " ".join(timed.notes)
    assert "no trace holds this model" in notes
    assert "weight update not apart from the backward pass: 0" in notes


def test_layers_that_no_module_stands_for_are_named():
    class Pools(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.lif, self.fc = nn.Conv2d(2, 4, 3, padding=1), Lif(), nn.Linear(36, 3)

        def forward(self, x):
            return self.fc(nn.functional.max_pool2d(self.lif(self.conv(x)), 2).flatten(1))

    timed = record(Loop(Pools()), spikes(2, 6, 6), TARGETS, mean_loss, device="cpu", plan=QUICK)
    assert any(note.startswith("no module stands for net.0.lif.max_pool:") for note in timed.notes)


def test_energy_of_a_model_comes_from_the_same_meter():
    own, fake = by_hand(), FakeMeter(watts=50.0)
    target = Target(name="cpu", clock=CpuClock(), device=Device(name="Fake GPU"), meter=fake, no_meter="", software={})
    asked = Asked(network="mine", plan=Plan(0, 1, energy_seconds=1e-9))
    timed = timed_model(*own.arguments, target, asked, timing=fake.looked_at())
    assert (timed.energy.idle_w, timed.conditions.temperature_c) == (50.0, 61.0)
    assert "energy" not in " ".join(note for note in timed.notes if note.startswith("no "))


def test_with_cuda_events_each_mark_is_one_and_the_notes_say_so(fake_cuda):
    """As much of CUDA as stands for it here: events that count themselves, a millisecond each."""
    own = by_hand()
    target = Target(
        name="cpu", clock=CudaClock("cuda:0"), device=Device(name="GPU"), meter=None, no_meter="none", software={}
    )
    timed = timed_model(*own.arguments, target, Asked(network="mine", plan=QUICK))
    assert timed.notes[0].startswith("timed with CUDA events;")
    assert timed.step.seconds == 1e-3  # from the event before a step to the one behind it
    assert sum(row.seconds for row in timed.rows) == pytest.approx(timed.step.marked_seconds, rel=1e-12)
    in_net = {row.phase: row.seconds for row in timed.rows if row.layer == "net.0.fc"}
    assert in_net == {"forward": 4e-3, "backward": 8e-3, "weight_update": pytest.approx(12e-3)}


def test_a_neuron_of_two_places_stands_in_the_layer_of_each():
    class Over(nn.Module):
        def forward(self, currents):
            membrane, sent = torch.zeros_like(currents[0]), []
            for current in currents:
                membrane = 0.5 * membrane + current
                sent.append(fire_rectangle(membrane - 0.25))
                membrane = membrane * (1 - sent[-1])
            return torch.stack(sent)

        def h2sim_neuron(self):
            return export.NeuronSpec(
                decay=0.5, threshold=0.25, fire=fire_rectangle, multi_step=True, time_axis=0, surrogate="rectangle"
            )

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2, self.fc3, self.lif = nn.Linear(12, 8), nn.Linear(8, 8), nn.Linear(8, 3), Over()

        def forward(self, x):
            return self.fc3(self.lif(self.fc2(self.lif(self.fc1(x)))))

    torch.manual_seed(0)
    fired = [label for label, name, _ in watched(Own(Twice(), spikes(12))) if name == "aten::ge"]
    assert fired == 4 * [("fc1", "forward")] + 4 * [("fc2", "forward")]


def test_a_model_that_was_moved_comes_back_with_its_own_parameters():
    """No GPU is needed for this: meta is a device too, where parameters must be made anew."""
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before, values = dict(model.named_parameters()), state_of(model)
    with as_found(model), placed(model, torch.device("meta")):
        assert model[0].weight.device.type == model[1].running_mean.device.type == "meta"
    assert all(p is before[name] for name, p in model.named_parameters())
    assert_as_before(model, values)


def test_a_trace_is_written_and_read_again(tmp_path):
    own = by_hand()
    timed = record(*own.arguments, tmp_path / "mine.csv", device="cpu", plan=QUICK, network="mine", dataset="noise")
    assert load_gpu_trace(tmp_path / "mine.csv") == timed
    assert timed.device.name == cpu_target().device.name


WRONG = {
    "no module": ({"model": 3}, "record: model: expected a torch.nn.Module; got int"),
    "a loader": ({"inputs": [1, 2]}, "record: inputs: expected one batch: a tensor, or a tuple of arguments; got list"),
    "no function": ({"loss": 1}, "record: loss: expected a function of output and targets; got int"),
    "inputs of another shape": (
        {"inputs": torch.rand(4, 3, 7)},
        r"record: model: expected one that runs on \(4, 3, 7\); got RuntimeError: mat1 and mat2",
    ),
    "a loss that raises": (
        {"targets": torch.arange(7)},
        r"record: loss: expected one of \(3, 3\) and targets \(7,\); got ValueError: Expected input batch_size",
    ),
    "a loss of many numbers": ({"loss": lambda o, t: o}, r"loss: value: expected a tensor of one number; got \(3, 3\)"),
    "a loss that is no tensor": ({"loss": lambda o, t: 1.0}, "loss: value: expected a tensor of one number; got float"),
    "a loss without gradient": (
        {"loss": lambda o, t: o.detach().sum()},
        "loss: gradient: expected a loss that depends on the model's weights; got one without gradient",
    ),
    "no layers with weights": (
        {"model": Loop(Lif())},
        r"record: model: expected layers with weights that are trained \(nn.Conv2d, nn.Linear\); got none in Loop",
    ),
    "another device": ({"device": "tpu"}, "record: device: expected one of cuda, cpu; got 'tpu'"),
    "an optimizer of another model": (
        {"optimizer": torch.optim.Adam(nn.Linear(1, 1).parameters())},
        "record: optimizer: expected one of the model's parameters; got one of others",
    ),
    "no optimizer": (
        {"optimizer": 3},
        "record: optimizer: expected a torch optimizer, or what makes one of parameters",
    ),
    "a name of two lines": ({"network": "a\nb"}, "record: network: "),
    "what the device cannot be": ({"about_device": {"node_nm": -1}}, "record: device: node_nm: "),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_timed_is_a_line(name):
    changed, said = WRONG[name]
    given = {"model": Loop(nn.Linear(12, 3), Lif()), "inputs": spikes(12), "targets": TARGETS, "loss": mean_loss,
             "device": "cpu", "plan": QUICK}  # fmt: skip
    with pytest.raises(h2sim.H2SimError, match=f"^{said}") as raised:
        record(**{**given, **changed})
    assert len(raised.value.lines) == 1


@pytest.mark.parametrize("name", [name for name in WRONG if name not in ("a name of two lines",)])
def test_what_cannot_be_measured_is_a_line_too_and_nothing_is_written(name, tmp_path):
    given = {"model": Loop(nn.Linear(12, 3), Lif()), "inputs": spikes(12), "targets": TARGETS, "loss": mean_loss,
             "device": "cpu", "plan": QUICK, "path": tmp_path / "m.npz"}  # fmt: skip
    with pytest.raises(h2sim.H2SimError) as raised:
        h2sim.measure(**{**given, **WRONG[name][0]})
    assert len(raised.value.lines) == 1
    assert not list(tmp_path.iterdir())


def test_a_model_is_timed_by_its_layers_where_gradients_are_off():
    with torch.no_grad():
        timed = record(*by_hand().arguments, device="cpu", plan=QUICK)
    assert (timed.timesteps, {row.layer for row in timed.rows if row.phase == "weight_update"}) == (
        4, {"net.0.conv1", "net.0.conv2", "net.0.fc"},
    )  # fmt: skip


def test_under_autocast_and_with_frozen_weights_the_weight_update_is_not_made_up():
    own = by_hand()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        timed = record(*own.arguments, device="cpu", plan=QUICK)
    assert any(note.startswith("weight update not apart from the backward pass: net.0.conv1,") for note in timed.notes)
    assert not [row for row in timed.rows if row.phase == "weight_update"]
    for parameter in own.model.net[0].conv1.parameters():
        parameter.requires_grad_(False)
    timed = record(*own.arguments, device="cpu", plan=QUICK)
    assert {row.layer for row in timed.rows if row.phase == "weight_update"} == {"net.0.conv2", "net.0.fc"}


def test_cuda_without_cuda_is_a_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(GpuTraceError, match=r"^device: expected a CUDA GPU, and a torch built for it; got none"):
        record(*by_hand().arguments, device="cuda", plan=QUICK)


def test_a_folder_that_does_not_exist_is_told_before_anything_runs(tmp_path):
    def never(output, targets):
        raise AssertionError

    with pytest.raises(OutputError, match="no-such"):
        record(*replace(by_hand(), loss=never).arguments, tmp_path / "no-such" / "mine.json", device="cpu")


def test_no_module_of_the_package_has_the_name_of_a_public_function():
    from pathlib import Path

    import h2sim.gpu

    modules = {path.stem for path in Path(h2sim.gpu.__file__).parent.glob("*.py")}
    assert not modules & set(h2sim.gpu.__all__)
    assert callable(h2sim.gpu.record)

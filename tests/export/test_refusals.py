"""What no trace can hold is refused in one line that names the module and says why."""

from __future__ import annotations

import pytest
from torch import nn

from h2sim import export
from h2sim.errors import ExportError, H2SimError
from tests.helpers.models import TARGETS, Lif, Loop, T, conv_pool_fc, image, mean_loss, spikes, torch


def refused(model, match, inputs=None, loss=mean_loss, targets=TARGETS, **options):
    inputs = spikes(2, 6, 6) if inputs is None else inputs
    with pytest.raises(ExportError, match=match) as caught:
        export.trace(model, inputs, targets, loss, **options)
    assert "\n" not in str(caught.value)
    hooks = [module for module in model.modules() if module._forward_hooks or module._forward_pre_hooks]
    assert not hooks


def between(*layers, out=64):
    """conv - neuron - the layers in question - fc - neuron."""
    return Loop(nn.Conv2d(2, 4, 3), Lif(), *layers, nn.Flatten(), nn.Linear(out, 3), Lif())


@pytest.mark.parametrize(
    ("layer", "out", "why"),
    [
        (nn.Conv2d(4, 4, 2, dilation=2), 16, r"net.2: Conv2d: cannot be exported: dilation \(2, 2\)"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), 64, "net.2: .*padding_mode 'circular'"),
        (nn.Conv2d(4, 4, 2, padding="same"), 64, "net.2: .*padding 'same' of an even kernel"),
        (nn.ConvTranspose2d(4, 4, 3), 144, "net.2: ConvTranspose2d: .*convolves in two dimensions, forwards"),
        (nn.MaxPool2d(2), 16, "net.2: MaxPool2d: .*pools by averaging"),
        (nn.AvgPool2d(3, 2, ceil_mode=True), 16, "net.2: AvgPool2d: .*ceil_mode=True"),
        (nn.AvgPool2d(2, divisor_override=1), 16, "net.2: .*divisor_override 1"),
        (nn.AvgPool2d(2, padding=1, count_include_pad=False), 36, "net.2: .*count_include_pad=False"),
        (nn.Dropout(0.5), 64, "net.2: Dropout: .*dropout in training mode"),
        (nn.AdaptiveAvgPool2d(3), 36, r"net.2: AdaptiveAvgPool2d: expected an output that divides \[4, 4\]; got"),
        (nn.AvgPool2d(2), 16, "net.2: average pool: expected one neuron behind it; got averages that go on to net.4"),
        (nn.ReLU(), 64, "net.4: reads: expected layers, sums of them and changes of shape only; got the operation R"),
        (nn.BatchNorm2d(4), 64, "net.2: batch norm: expected to follow a layer of weights or a pool; got it after n"),
        (nn.Conv2d(4, 4, 3), 16, "net.4: inputs: expected spikes; got currents of 'net.2', no neuron between"),
    ],
)  # fmt: skip
def test_a_module_that_the_machine_does_not_have(layer, out, why):
    refused(between(layer, out=out), f"^{why}")


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (nn.LSTM(8, 8), "LSTM: cannot be exported: recurrent connections"),
        (nn.GRUCell(8, 8), "GRUCell: cannot be exported: recurrent connections"),
        (nn.Conv1d(8, 8, 1), "Conv1d: cannot be exported: the machine convolves in two dimensions"),
        (nn.MultiheadAttention(8, 2), "MultiheadAttention: cannot be exported: the machine has no attention"),
    ],
)
def test_recurrence_and_attention(module, why):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.lif, self.other = nn.Linear(8, 8), Lif(), module

        def forward(self, x):
            s = self.lif(self.fc(x))
            return self.other(s, s, s)[0] if isinstance(self.other, nn.MultiheadAttention) else self.other(s)

    refused(Model(), f"^other: {why}", spikes(8), forward=lambda model, x: [model(step) for step in x])


class Functional(nn.Module):
    """fc1 - neuron - whatever `between` does to its spikes - fc2, per timestep."""

    def __init__(self, between, outputs=3):
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.lif, self.fc2 = nn.Linear(8, 8), Lif(), nn.Linear(8, outputs)
        self.between, self.extra = between, nn.Parameter(torch.ones(8))

    def forward(self, x):
        return sum(self.fc2(self.between(self, self.lif(self.fc1(step)))) for step in x)


@pytest.mark.parametrize(
    ("between", "why"),
    [
        (lambda model, s: s * 2, "fc2: reads: expected layers, .*got the operation Mul on the way"),
        (lambda model, s: torch.sigmoid(s), "fc2: reads: .*got the operation Sigmoid"),
        (lambda model, s: s.flip(1), r"fc2: reads: expected what lif sent; got \d+ of 96 other values: something"),
        (lambda model, s: s + 1, r"fc2: reads: expected what lif sent; got 96 of 96 other values"),
        (lambda model, s: torch.add(s, s, alpha=2), "fc2: reads: expected a plain sum; got one with alpha=2"),
        (lambda model, s: s + s, r"fc2: reads: expected each layer once; got the sum of lif \+ lif"),
        (lambda model, s: s + model.extra, "fc2: reads: expected layers or the network input; got parameter 'extra'"),
        (lambda model, s: s.detach(), "fc2: reads: expected the network input as 'fc1' reads it; got other val"),
        (lambda model, s: model.lif.kept, "fc2: reads: expected .*got the operation Mul"),
        (lambda model, s: torch.roll(s, 1, 0), "fc2: reads: .*the operation Roll"),
        (lambda model, s: s + model.fc1(s), r"fc1: reads: expected the same layers|fc2: inputs: expected one input"),
    ],
)  # fmt: skip
def test_an_operation_between_layers_that_the_trace_cannot_show(between, why):
    refused(Functional(between), f"^({why})", spikes(8))


def test_spikes_added_after_firing():
    class Sew(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.lif1, self.fc2, self.lif2, self.fc3 = (
                nn.Linear(8, 8), Lif(), nn.Linear(8, 8), Lif(), nn.Linear(8, 3),
            )  # fmt: skip

        def forward(self, x):
            first = self.lif1(self.fc1(x))
            return self.fc3(self.lif2(self.fc2(first)) + first)

    wanted = r"^fc3: inputs: expected one input; got the sum of lif2 \+ lif1, which is not binary"
    refused(Sew(), wanted, spikes(8), forward=lambda model, x: sum(model(step) for step in x))


def test_a_concatenation_of_layers():
    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.lif1, self.fc2, self.lif2, self.fc3 = (
                nn.Linear(8, 8), Lif(), nn.Linear(8, 8), Lif(), nn.Linear(16, 3),
            )  # fmt: skip

        def forward(self, x):
            first = self.lif1(self.fc1(x))
            return self.fc3(torch.cat([first, self.lif2(self.fc2(first))], 1))

    wanted = "^fc3: reads: expected one layer or a sum of layers; got a concatenation of lif1 and lif2"
    refused(Dense(), wanted, spikes(8), forward=lambda model, x: sum(model(step) for step in x))


def test_spikes_that_go_back_in_time():
    class Feedback(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.lif, self.fc2 = nn.Linear(8, 8), Lif(), nn.Linear(8, 8)

        def forward(self, x):
            s = torch.zeros(3, 8)
            for step in x:
                s = self.lif(self.fc1(step) + self.fc2(s))
            return s

    refused(
        Feedback(), "^lif: reads: expected the same layers|^fc2: reads: expected the same layers at every", spikes(8)
    )


def test_modules_that_are_called_too_often_or_share_a_name():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.lif1, self.lif2, self.fc2 = nn.Linear(8, 8), Lif(), Lif(), nn.Linear(8, 3)

        def forward(self, x):
            out = 0
            for step in x:
                out = out + self.fc2(self.lif2(self.fc1(self.lif1(self.fc1(step)))))
            return out

    refused(Twice(), "^fc1: reads: expected the same layers at every timestep.*or one module at two places", spikes(8))


class Sequenced(Lif):
    """The neuron over (T, N, ...) in one call."""

    def forward(self, x):
        return torch.stack([Lif.forward(self, step) for step in x])

    def h2sim_neuron(self):
        return export.NeuronSpec(decay=self.decay, threshold=self.threshold, fire=self.fire, multi_step=True)


def test_neurons_that_saw_other_timesteps_or_shapes():
    net = nn.Sequential(nn.Linear(8, 8), Sequenced(), nn.Linear(8, 3))
    refused(net, "^1: Sequenced: expected one call for all timesteps; got 2 calls", spikes(8),
            forward=lambda model, x: model(x) + model(x))  # fmt: skip
    refused(net, r"^1: Sequenced: expected \(T, N, ...\); got \(3, 8\)", spikes(8)[0])
    both = nn.ModuleList([nn.Linear(8, 8), Lif(), nn.Linear(8, 4)])
    refused(both, r"^1: Lif: expected one shape in all calls.*got \(3, 8\) and \(3, 4\)", spikes(8),
            forward=lambda m, x: [m[1](m[2](m[1](m[0](step)))) for step in x])  # fmt: skip
    refused(net, r"^model: timesteps: expected 5; got 4, as '1' ran", spikes(8), timesteps=5)
    odd = nn.Sequential(nn.Linear(8, 8), Sequenced(), nn.Linear(8, 3))
    refused(odd, r"^2: Linear: expected 4 calls with 3 samples, or one with 4 x 3 of 1-dim.*got 2 of shape \(2, 3, 8\)",
            spikes(8), forward=lambda m, x: torch.cat([m[2](half) for half in m[1](m[0](x)).split(2)]))  # fmt: skip


def test_values_that_are_not_finite():
    model = conv_pool_fc()
    with torch.no_grad():
        model.net[2].bias[1] = float("inf")
    refused(model, "^net.2: output value: expected finite numbers; got inf")
    steep = Loop(nn.Linear(8, 8), Lif(fire=Steep.apply), nn.Linear(8, 3))
    refused(
        steep, "^net.0: output gradient: .*|^net.1: input gradient: expected finite numbers; got (nan|inf)", spikes(8)
    )


class Steep(torch.autograd.Function):
    """A surrogate without end at the threshold."""

    @staticmethod
    def forward(ctx, u):
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad * float("inf")


class Half(torch.autograd.Function):
    """Fires 0.5."""

    @staticmethod
    def forward(ctx, u):
        return 0.5 * (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad


def test_a_neuron_that_is_not_what_it_says():
    wrong = Loop(nn.Linear(8, 8), Lif(decay=0.5, said_decay=0.7), nn.Linear(8, 3))
    refused(wrong, r"^net.1: spikes: expected those of v\[t\] = 0.7 v\[t-1\] \(1 - s\[t-1\]\) .*got \d+ of 9",
            spikes(8))  # fmt: skip
    refused(Loop(nn.Linear(8, 8), Lif(fire=Half.apply), nn.Linear(8, 3)), "^net.1: spikes: expected 0 or 1; got 0.5",
            spikes(8))  # fmt: skip
    flat = Loop(nn.Linear(8, 8), Lif(fire=lambda u: (u.detach() >= 0).float()), nn.Linear(8, 3))
    refused(flat, "^net.1: surrogate: expected a gradient; got none from rectangle", spikes(8))
    said = Lif()
    said.h2sim_neuron = lambda: {"decay": 0.5}
    refused(Loop(nn.Linear(8, 3), said), "^net.1: h2sim_neuron: expected a NeuronSpec; got dict", spikes(8))
    said.h2sim_neuron = lambda: export.NeuronSpec(decay=0.5, threshold=1.0, fire=said.fire, gain=0.0)
    refused(Loop(nn.Linear(8, 3), said), "^net.1: Lif: cannot be exported: gain 0, not above 0", spikes(8))


def test_a_neuron_that_reads_the_analog_input():
    refused(Loop(Lif(), nn.Flatten(), nn.Linear(72, 3)), "^net.0: neuron: expected a layer of weights to read",
            image(2, 6, 6))  # fmt: skip
    refused(Loop(nn.AvgPool2d(2), Lif(), nn.Flatten(), nn.Linear(18, 3)), "^net.0: pool: expected a layer of weights",
            image(2, 6, 6))  # fmt: skip


def test_an_average_of_averages():
    refused(
        between(nn.AvgPool2d(2), nn.AvgPool2d(2), Lif(), out=4), "^net.2: average pool: expected one neuron behind it"
    )


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        (lambda output, targets: output, r"loss: value: expected a tensor of one number; got \(3, 3\)"),
        (lambda output, targets: 1.0, "loss: value: expected a tensor of one number; got float"),
        (
            lambda output, targets: output.detach().sum(),
            "loss: gradient: expected a loss that depends on",
        ),
        (lambda output, targets: output.sum() / 0, "loss: value: expected a finite number; got -?(inf|nan)"),
    ],
)
def test_a_loss_that_cannot_be_learnt_from(loss, why):
    refused(conv_pool_fc(), f"^{why}", loss=loss)


def test_wrong_arguments():
    model = conv_pool_fc()
    refused(model, r"^targets: samples: expected 3 as the inputs; got shape \(7,\)", targets=torch.zeros(7))
    refused(model, "^export: batch: expected 1 to 3, the samples of the inputs; got 9", batch=9)
    refused(model, "^export: window_threshold: expected a number of at least 0; got -1", window_threshold=-1)
    refused(model, "^net.1: window_threshold: expected less than 1, the surrogate's.*got 2", window_threshold=2)
    refused(nn.Linear(4, 3), "^model: neurons: expected at least one that is called.*got none", spikes(4))


def test_a_model_that_switches_autograd_off():
    refused(conv_pool_fc(), r"^net.0: Conv2d: expected to run with autograd on; got torch.no_grad\(\)",
            forward=torch.no_grad()(lambda model, x: model(x)))  # fmt: skip


def test_modules_that_take_or_send_other_things_than_tensors():
    refused(Loop(Listing()), "^net.0: Listing: expected a tensor sent; got list", spikes(8))
    refused(Loop(nn.Linear(8, 3), Lif()), "^net.0: Linear: expected a tensor as its first argument; got keywords only",
            spikes(8), forward=lambda model, x: model.net[0](input=x[0]))  # fmt: skip
    refused(Loop(Lif()), "^net.0: Lif: expected floating-point numbers; got torch.int64", torch.ones(T, 3, 8).long())


class Listing(Lif):
    def forward(self, x):
        return [x]


def test_devices_that_differ():
    refused(conv_pool_fc().to("meta"), "^inputs: device: expected meta as the model's; got cpu")
    model = conv_pool_fc()
    model.net[6].to("meta")
    refused(model, "^model: device: expected one for all parameters and buffers; got .*on cpu and .*on meta")


def test_errors_of_an_export_are_of_the_projects_kind():
    assert issubclass(ExportError, H2SimError)


def test_a_missing_library_is_one_line(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "nir", None)
    monkeypatch.delitem(sys.modules, "h2sim.export.nir", raising=False)
    with pytest.raises(ExportError, match=r"^h2sim.export.load_nir: needs nir, which is not installed$"):
        _ = export.load_nir
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = export.nothing


class Whole(nn.Module):
    """fc - neuron - what `between` makes of all timesteps' spikes at once - fc."""

    def __init__(self, between):
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.lif, self.fc2, self.lif2 = nn.Linear(8, 8), Sequenced(), nn.Linear(8, 3), Sequenced()
        self.between = between

    def forward(self, x):
        return self.between(self, self.lif(self.fc1(x)))


def residual_in_place(net, s):
    current = net.fc2(s.flatten(0, 1)).view(T, -1, 3)
    current += s[..., :3]
    return net.lif2(current)


def part_in_place(net, s):
    current = net.fc2(s)
    current.view(-1, 3).add_(s[..., :3].reshape(-1, 3))
    return net.lif2(current)


@pytest.mark.parametrize(
    ("between", "why"),
    [
        (lambda net, s: net.fc2(s.mean(0)), r"fc2: reads: .*operation Mean on the way \(an average over time"),
        (lambda net, s: net.fc2(s.sum(0)), r"fc2: reads: .*operation Sum on the way \(a sum over time"),
        (lambda net, s: net.fc2(s * (1 - s)), r"fc2: reads: .*operation Mul on the way \(the machine reads spikes as"),
        (
            lambda net, s: net.fc2(nn.functional.dropout(s)),
            r"fc2: reads: .*operation Mul on the way \(the machine reads spikes as they are: no scale, gate",
        ),
        (
            lambda net, s: net.fc2(nn.functional.max_pool2d(s.view(-1, 2, 2, 2), 1).view(T, -1, 8)),
            r"fc2: reads: .*operation MaxPool2DWithIndices on the way \(max pooling: the machine pools by averaging",
        ),
        (
            lambda net, s: net.fc2(nn.functional.avg_pool2d(s.view(-1, 2, 2, 2), 1).view(T, -1, 8)),
            r"fc2: reads: .*operation AvgPool2D on the way \(call it as the module nn.AvgPool2d, with a neuron",
        ),
        (residual_in_place, r"lif2: reads: .*operation AsStrided on the way \(an in-place change of a reshaped tensor"),
        (part_in_place, r"lif2: reads: .*got an in-place change of a part \(write y = y . a .*\) of fc2 and lif"),
    ],
)  # fmt: skip
def test_an_operation_is_refused_with_what_to_do_instead(between, why):
    refused(Whole(between), f"^({why})", spikes(8))


def test_a_model_that_lays_out_samples_before_time():
    inputs = spikes(8).transpose(0, 1)
    wanted = r"^targets: samples: expected 4 as the inputs; got shape \(3,\): does the model lay out \(N, T, ...\)"
    refused(Whole(lambda net, s: net.fc2(s)), wanted, inputs)

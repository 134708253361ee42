"""What no trace can hold is refused in one line that names the module and says why."""

from __future__ import annotations

import pytest
from torch import nn

from h2sim import export
from h2sim.errors import ExportError, H2SimError
from tests.helpers.models import TARGETS, Lif, Loop, T, conv_pool_fc, mean_loss, spikes, torch


def refused(model, match, inputs=None, loss=mean_loss, targets=TARGETS, lines=1, **options):
    inputs = spikes(2, 6, 6) if inputs is None else inputs
    with pytest.raises(ExportError, match=match) as caught:
        export.trace(model, inputs, targets, loss, **options)
    assert len(str(caught.value).splitlines()) == lines
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
        (nn.BatchNorm2d(4).eval(), 64, "net.2: batch norm: expected to follow a layer of weights, or to be t"),
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
        (
            nn.MultiheadAttention(8, 2),
            "MultiheadAttention: cannot be exported: attention, which is planned",
        ),
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
        (lambda model, s: s * -2, r"fc2: reads: .*got a product with -2 on the way \(scale by a number above 0"),
        (lambda model, s: s * torch.arange(8.0), r"fc2: reads: .*got a product with values of shape \(8,\) on the way"),
        (lambda model, s: torch.sigmoid(s), "fc2: reads: .*got the operation Sigmoid"),
        (lambda model, s: s.flip(1), r"fc2: reads: expected what lif sent; got \d+ of 96 other values: something"),
        (lambda model, s: s + 1, r"fc2: reads: expected what lif sent; got 96 of 96 other values"),
        (lambda model, s: s + s, r"fc2: reads: .*; got the sum of lif \+ lif on the way \(double it by a factor"),
        (lambda model, s: s + model.extra, "extra: weights of Functional: .*got the operation Add on the way to 'fc2'"),
        (lambda model, s: model.extra[None], "fc2: reads: expected layers, .*; got parameter 'extra'"),
        (lambda model, s: s.detach(), "fc2: reads: expected the network input as 'fc1' reads it; got other val"),
        (lambda model, s: model.lif.kept, "fc2: reads: .*got a (product of fc1 and|state inside 'lif')"),
        (lambda model, s: 1 - s, r"lif.not: map: expected spikes.*got 1 - spikes \(take it in a product only\)"),
        (lambda model, s: torch.roll(s, 1, 0), "fc2: reads: .*the operation Roll"),
    ],
)  # fmt: skip
def test_an_operation_between_layers_that_the_trace_cannot_show(between, why):
    refused(Functional(between), f"^({why})", spikes(8))


@pytest.mark.parametrize(
    ("between", "also"),
    [
        (lambda model, s: s + model.fc1(s), "fc1: Linear: expected 4 calls with 3 samples"),
        (lambda model, s: s - model.fc1(s), "fc2: reads: .*; got the operation Sub on the way"),
        (lambda model, s: s * model.fc1(s), "fc2: reads: .*; got a product of lif and fc1 on the way .only of spikes"),
    ],
)
def test_several_obstacles_are_told_at_once(between, also):
    refused(Functional(between), rf"^fc1: reads: expected the same layers[^\n]*\n{also}", spikes(8), lines=2)


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
    with pytest.raises(ExportError, match=r"(?m)^2: reads: expected the same layers at every timestep .1.; got 1-2: "):
        export.trace(net, spikes(8), TARGETS, mean_loss, forward=lambda model, x: model(x) + model(x))
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
    refused(
        model,
        r"^targets: samples: expected 3 as the inputs, which .* as \(T, N, ...\); got shape \(7,\)",
        targets=torch.zeros(7),
    )
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
        (lambda net, s: net.lif2(net.fc2(s.mean(0)).expand(T, -1, -1)),
         r"lif.mean_over_time: mean over time: expected in front of the last product alone; got one in front of fc2 "
         r"\(average behind the last neurons"),
        (lambda net, s: net.fc2(nn.functional.max_pool2d(s.view(-1, 2, 2, 2), 1).view(T, -1, 8)),
         r"fc2: reads: .*got a pool over \(2, 2, 2\) of lif, which sends \(8,\) on the way"),
        (lambda net, s: net.fc2(torch.bmm(s, s.transpose(1, 2)) @ s), r"fc2: reads: .*attention between spikes is "),
        (residual_in_place, r"lif2: reads: .*got the sum of \(3,\) and \(8,\) on the way \(add maps of one shape\)"),
        (part_in_place, r"lif2: reads: .*got the sum of \(3,\) and \(8,\) on the way \(add maps of one shape\)"),
    ],
)  # fmt: skip
def test_an_operation_is_refused_with_what_to_do_instead(between, why):
    refused(Whole(between), f"^({why})", spikes(8))


def test_a_model_that_lays_out_samples_before_time():
    inputs = spikes(8).transpose(0, 1)
    wanted = r"^targets: samples: expected 4 as the inputs, which the neurons read as \(T, N, ...\); got shape \(3,\)"
    refused(Whole(lambda net, s: net.fc2(s)), wanted, inputs)

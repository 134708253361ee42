"""Work of a network that no layer of a trace would show is refused by the name of its weights."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from h2sim import export
from h2sim.errors import ExportError
from tests.helpers.loose import Loose, weight
from tests.helpers.models import TARGETS, Lif, Loop, exported, kinds, library, mean_loss, quantities, spikes, torch

ALONE = "expected to be used by an exported layer, norm or neuron that holds it, and by nothing else; got"
LOOSE = torch.ones(3, 8, requires_grad=True)
PLAIN = torch.linspace(-1, 1, 24).reshape(3, 8)
LAYERS = ["fc1", "fc2", "out"]


def refused(model, match, loss=mean_loss, **options):
    with pytest.raises(ExportError, match=match) as caught:
        export.trace(model, spikes(8), TARGETS, loss, **options)
    assert "\n" not in str(caught.value)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


class Cell(nn.Module):
    """A read-out that holds its own weights, of a class that no adapter knows."""

    def __init__(self, frozen=False):
        super().__init__()
        self.input_weights = weight(3, 8, frozen=frozen)

    def forward(self, x):
        return x @ self.input_weights.t()


class Checkpointed(Cell):
    """The same in a checkpoint; of a reentrant one autograd's graph shows nothing."""

    def __init__(self, reentrant):
        super().__init__()
        self.reentrant = reentrant

    def forward(self, x):
        return checkpoint(super().forward, x, use_reentrant=self.reentrant)


def by_cell(net, s):
    return net.cell(s)


READ_OUTS = {
    "linear": (lambda net, s: functional.linear(s, net.w), weight(3, 8)),
    "at": (lambda net, s: s @ net.w, weight(8, 3)),
    "matmul": (lambda net, s: torch.matmul(net.w, s.t()).t(), weight(3, 8)),
    "einsum": (lambda net, s: torch.einsum("nf,kf->nk", s, net.w), weight(3, 8)),
    "addmm": (lambda net, s: torch.addmm(torch.zeros(3), s, net.w), weight(8, 3)),
    "tensordot": (lambda net, s: torch.tensordot(s, net.w, ([1], [1])), weight(3, 8)),
    "bilinear": (lambda net, s: functional.bilinear(s, s, net.w), weight(3, 8, 8)),
    "conv2d": (lambda net, s: functional.conv2d(s.view(-1, 2, 2, 2), net.w).flatten(1), weight(3, 2, 2, 2)),
    "conv1d": (lambda net, s: functional.conv1d(s[:, None], net.w).mean(2), weight(3, 1, 2)),
    "embedding": (lambda net, s: net.out(s) + functional.embedding(s.sum(1).long(), net.w), weight(9, 3)),
    "product and sum by hand": (lambda net, s: (s[:, None] * net.w).sum(2), weight(3, 8)),
    "gate": (lambda net, s: net.out(s) * net.w, weight(3)),
    "learnt scale": (lambda net, s: net.out(s) * net.w, weight(1)),
    "learnt shift": (lambda net, s: net.out(s) + net.w, weight(3)),
    "gradient of exactly 0": (lambda net, s: net.out(s) + 0 * functional.linear(s, net.w), weight(3, 8)),
    "power": (lambda net, s: net.out(s).exp() ** net.w, weight(1)),
}


@pytest.mark.parametrize(("behind", "held"), READ_OUTS.values(), ids=READ_OUTS)
def test_a_parameter_used_by_hand_behind_the_last_neuron(behind, held):
    refused(
        Loose(behind=behind, w=held), f"^w: weights of Loose: {ALONE} the operation .* outside of every one: no row"
    )


@pytest.mark.parametrize("frozen", [False, True])
def test_a_read_out_cell_that_holds_weights(frozen):
    """Case 01 with a cell of one's own: deep in the model, and frozen, where autograd's graph does not show it."""
    nested = nn.ModuleDict({"inner": Cell(frozen)})
    why = f"^nested.inner.input_weights: weights of Cell: {ALONE} the operation mm outside of every one"
    refused(Loose(behind=lambda net, s: net.nested["inner"](s), nested=nested), why)


def test_the_read_out_of_norse(tmp_path):
    """Case 01 as it was found: LILinearCell is no neuron of a trace, and its product was in no row. Now it is one."""
    norse = library("norse.torch")

    class Readout(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.lif, self.out = nn.Linear(8, 8), Lif(), norse.LILinearCell(8, 3)

        def forward(self, x):
            state, sent = None, []
            for now in x:
                v, state = self.out(self.lif(self.fc(now)), state)
                sent.append(v)
            return torch.stack(sent)

    model = Readout()
    made, _, report = exported(model, spikes(8), tmp_path / "t.npz")
    assert kinds(made) == {"fc": ("fc", ["input"], True), "out": ("fc", ["fc"], False)}
    assert quantities(report)["out"] == {"current", "grad is dm != 0", "weight_grad"}
    assert np.array_equal(made.members["out.weight"], model.out.input_weights.detach().numpy())
    assert made.members["out.weight_grad"].any()


@pytest.mark.parametrize("reentrant", [False, True])
def test_weights_in_a_checkpoint(reentrant):
    net = Loose(behind=by_cell, cell=Checkpointed(reentrant))
    refused(net, f"^cell.input_weights: weights of Checkpointed: {ALONE} the operation mm outside of every one")


class Smuggled(torch.autograd.Function):
    """Gives a network's parameter a gradient that no edge of the graph leads to."""

    @staticmethod
    def forward(ctx, x, net):
        ctx.net = net
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        ctx.net.w.grad = torch.ones_like(ctx.net.w)
        return grad, None


def test_a_gradient_that_the_graph_does_not_show():
    net = Loose(behind=lambda net, s: Smuggled.apply(net.out(s), net), w=weight(1))
    refused(net, f"^w: weights of Loose: {ALONE} a gradient that autograd's graph does not show")


@pytest.mark.parametrize(
    ("behind", "name"),
    [
        (lambda net, s: functional.linear(s, net.out.weight), "out.weight: weights of Linear"),
        (lambda net, s: net.out(s) + functional.linear(s, net.out.weight), "out.weight: weights of Linear"),
        (lambda net, s: net.out(s) + s @ net.fc1.weight[:, :3], "fc1.weight: weights of Linear"),
        (lambda net, s: net.out(s) + net.fc2.bias[:3], "fc2.bias: weights of Linear"),
        (lambda net, s: net.out(s) + net.out.bias.sum(), "out.bias: weights of Linear"),
    ],
)
def test_weights_of_a_layer_that_are_used_outside_of_it_too(behind, name):
    refused(Loose(behind=behind), f"^{name}: {ALONE} the operation [A-Za-z]+ outside of (every one|'.*' too)")


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    ("between", "shape"),
    [
        (lambda net, s: functional.linear(s, net.w), (8, 8)),
        (lambda net, s: torch.einsum("nf,kf->nk", s, net.w), (8, 8)),
        (lambda net, s: s * net.w, (8,)),
    ],
)
def test_weights_between_neurons(between, shape, frozen):
    refused(Loose(between=between, w=weight(*shape, frozen=frozen)), f"^w: weights of Loose: {ALONE} the operation")


def test_an_operation_between_neurons_is_named_by_its_parameter():
    """A power is no product that is watched for: the graph alone tells that a parameter is part of it."""
    match = f"^w: weights of Loose: {ALONE} the operation Pow on the way to 'fc2': no row would show"
    refused(Loose(between=lambda net, s: (s + 1) ** net.w, w=weight(1)), match)


@pytest.mark.parametrize(
    ("place", "use", "shape"),
    [
        ("behind", lambda net, s: functional.linear(s, net.w), (3, 8)),
        ("behind", lambda net, s: (s[:, None] * net.w).sum(2), (3, 8)),
        ("behind", lambda net, s: net.out(s) * net.w, (3,)),
        ("between", lambda net, s: s @ net.w, (8, 8)),
        ("between", lambda net, s: s * net.w, (8,)),
        ("before", lambda net, x: x @ net.w, (8, 8)),
    ],
)
def test_a_buffer_and_a_frozen_parameter_used_as_weights(place, use, shape):
    why = f"weights of Loose: {ALONE} the operation (mm|mul) outside of every one"
    refused(Loose(**{place: use}, buffers={"w": weight(*shape).detach()}), f"^w: {why}")
    refused(Loose(**{place: use}, w=weight(*shape, frozen=True)), f"^w: {why}")


@pytest.mark.parametrize(
    ("behind", "operation"),
    [
        (lambda net, s: functional.linear(s, PLAIN), "mm"),
        (lambda net, s: (s[:, None] * PLAIN).sum(2), "mul"),
        (lambda net, s: net.out(s) + s @ s.t(), "mm"),
        (lambda net, s: functional.conv2d(s.view(-1, 2, 2, 2), PLAIN.view(6, 2, 2, 1)).flatten(1), "convolution"),
        (lambda net, s: functional.layer_norm(net.out(s), (3,)), "native_layer_norm"),
        (lambda net, s: functional.batch_norm(net.out(s), None, None, training=True), "native_batch_norm"),
        (lambda net, s: functional.group_norm(net.out(s), 3), "native_group_norm"),
    ],
)  # fmt: skip
def test_products_and_norms_without_weights_that_the_model_holds(behind, operation):
    match = f"^model: products and norms: expected layers, which are modules; got the operation {operation} outside"
    refused(Loose(behind=behind), match)


@pytest.mark.parametrize("place", ["between", "behind"])
def test_a_tensor_with_a_gradient_that_is_no_parameter(place):
    use = (lambda net, s: s + LOOSE[0]) if place == "between" else (lambda net, s: functional.linear(s, LOOSE))
    refused(Loose(**{place: use}), r"a tensor of shape \(3, 8\) that is no parameter of the model")


class Centred(nn.Module):
    """A loss that learns."""

    def __init__(self):
        super().__init__()
        self.centres = weight(3, 3)

    def forward(self, output, targets):
        return functional.cross_entropy(output, targets) + ((output - self.centres[targets]) ** 2).mean()


def test_parameters_of_the_loss_and_of_a_head_that_is_no_part_of_the_model():
    loss, head = Centred(), nn.Linear(3, 3)
    refused(Loose(), f"^loss.centres: weights of Centred: {ALONE} the operation Sub outside of every one", loss)
    assert loss.centres.grad is None
    unknown = r"^a tensor of shape \(3,\) that is no parameter of the model, a tensor of shape \(3, 3\) that is no"
    refused(Loose(), unknown, lambda output, targets: mean_loss(head(output), targets))
    refused(Loose(), unknown, forward=lambda model, x: head(model(x)))
    assert head.weight.grad is None


def decayed(net):
    """A loss that adds weight decay, in the roundabout ways in which people write one."""

    def loss(output, targets):
        squares = [parameter.pow(2).sum() for parameter in net.parameters()]
        return (mean_loss(output, targets) + 0.01 * sum(squares[1:]) - -0.01 * squares[0]).view(1).squeeze()

    return loss


def test_weight_decay_in_the_loss_is_no_work_of_a_layer(tmp_path):
    """The weight gradient in the trace is that of the layer, which verify recomputes, not the penalty's."""
    net, x = Loose(), spikes(8)
    plain, _, _ = exported(net, x, tmp_path / "plain.npz")
    made, _, _ = exported(net, x, tmp_path / "decayed.npz", decayed(net))
    assert "the loss adds a penalty of weights: it is in loss_value, but in no weight_grad" in made.notes
    for name in LAYERS:
        ours, theirs = made.members[f"{name}.weight_grad"], plain.members[f"{name}.weight_grad"]
        assert np.allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    spare = Loose(spare=nn.Linear(2, 2))
    refused(spare, f"^spare.bias, spare.weight: weights of Linear: {ALONE} a penalty of the loss alone", decayed(spare))


def test_a_penalty_that_depends_on_activations_is_work():
    net = Loose()
    loss = lambda output, targets: mean_loss(output, targets) + (net.out.weight.abs() * output.mean()).sum()  # noqa: E731
    refused(net, f"^out.weight: weights of Linear: {ALONE} the operation Abs outside of 'out' too", loss)


def test_weights_that_other_weights_make():
    class Generated(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.a, self.b = Loose(), weight(8, 2), weight(2, 8)
            del self.net.fc2.weight

        def forward(self, x):
            self.net.fc2.weight = self.a @ self.b
            return self.net(x)

    refused(Generated(), f"^a, b: weights of Generated: {ALONE} the operation Mm inside 'net.fc2'")


def test_weights_inside_a_neuron():
    class Weighing(Lif):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(8, 8)

        def forward(self, x):
            return super().forward(self.fc(x))

        def membrane(self, x, s):
            kept, out = torch.zeros_like(x[0]), []
            for x_now, s_now in zip(x, s, strict=True):
                out.append(self.decay * kept + self.fc(x_now))
                kept = out[-1] * (1 - s_now)
            return torch.stack(out).detach()

        def h2sim_neuron(self):
            return export.NeuronSpec(decay=self.decay, threshold=self.threshold, fire=self.fire, membrane=self.membrane)

    net = Loop(nn.Linear(8, 8), Weighing(), nn.Linear(8, 3))
    refused(net, rf"^net.1.fc.bias, net.1.fc.weight: weights of Linear: {ALONE} the operation Addmm inside 'net.1'")


def reparametrised(old):
    """fc2 with weight_norm, out with spectral_norm, which refines its weights in every call in training mode."""
    net = Loose()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the old forms are deprecated, and still in use
        home = nn.utils if old else nn.utils.parametrizations
        home.weight_norm(net.fc2)
        home.spectral_norm(net.out)
    return net


@pytest.mark.parametrize("old", [False, True])
def test_weights_that_torch_reparametrises_are_those_of_their_layer(old, tmp_path):
    net = reparametrised(old)
    net.out.eval()
    made, _, report = exported(net, spikes(8), tmp_path / "t.npz")
    assert list(kinds(made)) == LAYERS
    assert not report.unchecked


def test_weights_that_change_from_call_to_call():
    refused(reparametrised(True), "^out: weights: expected the same at every timestep; got others from call to call")


def test_arithmetic_of_the_read_out_and_of_the_input_stays_out_of_it(tmp_path):
    """Scaling, time weights and normalised inputs belong to nobody: they were exported, and are."""
    net = Loose(
        before=lambda net, x: (x - net.mean) * net.scale, behind=lambda net, s: net.out(s) * 2 / 4 + 1,
        buffers={"mean": torch.full((8,), 0.3), "scale": torch.full((8,), 2.0)},
    )  # fmt: skip
    made, _, _ = exported(net, spikes(8), tmp_path / "t.npz")
    assert list(kinds(made)) == LAYERS
    assert not made.notes
    timed = Loose(behind=lambda net, s: net.out(s) * torch.tensor([1.0, 2.0, 3.0]))
    made, _, _ = exported(timed, spikes(8), tmp_path / "t.npz")
    assert made.notes == ("values behind the layers multiplied by a tensor of shape (3,): read-out, not a layer",)
    shared = Loose(behind=lambda net, s: net.out(s) / net.scale, buffers={"scale": torch.full((3,), 2.0)})
    refused(shared, f"^scale: weights of Loose: {ALONE} the operation div outside of every one")


def test_what_training_would_not_change_and_what_the_loss_does_not_read_is_told(tmp_path):
    net = Loose(behind=lambda net, s: (net.aux(s), net.out(s))[1], aux=nn.Linear(8, 5))
    net.fc1.requires_grad_(False)
    made, _, _ = exported(net, spikes(8), tmp_path / "t.npz")
    assert list(kinds(made)) == ["fc1", "fc2", "aux", "out"]
    frozen = "fc1: frozen (requires_grad is False): its weight update is recorded and counted all the same"
    assert {frozen, "aux: the loss does not depend on what it sends: its gradient is 0"} <= set(made.notes)
    assert not made.members["aux.grad"].any()


def test_a_sum_with_the_network_input_is_checked_by_its_values():
    """A constant that is added to the sum has no gradient, so that the graph does not show it."""

    class Skip(nn.Module):
        def __init__(self, added):
            super().__init__()
            self.added, self.fc, self.lif, self.out = added, nn.Linear(8, 8), Lif(), nn.Linear(8, 3)

        def forward(self, x):
            return sum(self.out(self.lif(self.fc(now) + now + self.added)) for now in x)

    inputs = spikes(8).requires_grad_()
    made = export.trace(Skip(0.0), inputs, TARGETS, mean_loss)
    assert kinds(made)["lif"] == ("add", ["input", "fc"], True)
    with pytest.raises(ExportError, match=r"^lif: reads: expected what fc \+ the network input sent; got 96 of 96"):
        export.trace(Skip(0.25), inputs, TARGETS, mean_loss)


def test_a_lazy_layer_asks_for_a_first_run():
    refused(Loop(nn.LazyLinear(8), Lif(), nn.Linear(8, 3)), "^net.0.weight: shape: expected one that is known: run the")

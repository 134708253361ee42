"""Work that hides inside a module that a trace shows, or behind a copy of weights, is refused as well."""

from __future__ import annotations

import pytest
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize, prune
from torch.utils.checkpoint import checkpoint

from h2sim import export
from h2sim.errors import ExportError
from tests.helpers.loose import Loose, weight
from tests.helpers.models import TARGETS, Lif, Loop, exported, mean_loss, spikes, torch

PLAIN = torch.linspace(-1, 1, 24).reshape(8, 3)
HELD = r"expected to be used by an exported layer, norm or neuron that holds it, and by nothing else; got the operation"


def refused(model, match, loss=mean_loss, **options):
    with pytest.raises(ExportError, match=match) as caught:
        export.trace(model, spikes(8), TARGETS, loss, **options)
    assert "\n" not in str(caught.value)


def adapted(frozen):
    """fc2 with an adapter of low rank, put on it by a hook as adapter libraries do; B is 0, as it begins."""
    net = Loose()
    net.fc2.a, net.fc2.b = weight(8, 2, frozen=frozen), nn.Parameter(torch.zeros(2, 8), requires_grad=not frozen)
    net.fc2.register_forward_hook(lambda module, args, sent: sent + args[0] @ module.a @ module.b)
    return net


def patched(factor):
    net = Loose()
    vars(net.out)["forward"] = lambda x: factor * functional.linear(x, net.out.weight, net.out.bias)
    return net


@pytest.mark.parametrize(
    ("net", "name", "operation"),
    [
        (lambda: adapted(False), "fc2", "(Mm|Add)"),
        (lambda: adapted(True), "fc2", "(Mm|Add)"),
        (lambda: patched(3.0), "out", "Mul"),
        (lambda: patched(PLAIN[0]), "out", "Mul"),
    ],
)
def test_a_layer_that_computes_more_than_its_class(net, name, operation):
    wanted = f"^{name}: Linear: expected what a Linear computes, and nothing else; got the operation {operation} inside"
    refused(net(), wanted)


class Lateral(Lif):
    """A neuron whose currents pass its own connections; frozen, autograd's graph does not tell."""

    def __init__(self, frozen):
        super().__init__()
        self.lateral = weight(8, 8, frozen=frozen)

    def forward(self, x):
        return super().forward(x @ self.lateral)

    def membrane(self, x, s):
        kept, out = torch.zeros_like(x[0]), []
        for x_now, s_now in zip(x, s, strict=True):
            out.append(self.decay * kept + x_now @ self.lateral)
            kept = out[-1] * (1 - s_now)
        return torch.stack(out).detach()

    def h2sim_neuron(self):
        return export.NeuronSpec(decay=self.decay, threshold=self.threshold, fire=self.fire, membrane=self.membrane)


class Projecting(nn.LayerNorm):
    def __init__(self):
        super().__init__(8)
        self.projection = weight(8, 8)

    def forward(self, input):
        return super().forward(input) @ self.projection


@pytest.mark.parametrize(
    "layers", [(Lateral(False),), (Lateral(True),), (Projecting(), Lif())], ids=["learnt", "frozen", "norm"]
)
def test_products_inside_a_neuron_or_a_norm(layers):
    refused(
        Loop(nn.Linear(8, 8), *layers, nn.Linear(8, 3)),
        "^net.1: products: expected none in a neuron or a norm; got the operation mm inside 'net.1'",
    )


@pytest.mark.parametrize(
    ("behind", "operation"),
    [
        (lambda net, s: net.out(s) + s.detach() @ net.w.detach().clone(), "mm"),
        (lambda net, s: net.out(s) + s.detach() @ (net.w * 1), "mm"),
        (lambda net, s: net.out(s) + net.w[s.sum(1).long() % 8], "index"),
        (lambda net, s: net.out(s) + torch.where(s[:, :, None] > 0, net.w, 0.0).sum(1), "where"),
        (lambda net, s: net.out(s) + torch.stack([net.w[row > 0].sum(0) for row in s]), "index"),
        (lambda net, s: torch.lerp(net.out(s), s[:, :3], net.w[0]), "lerp"),
        (lambda net, s: functional.prelu(net.out(s), net.w[0].clone()), "_prelu_kernel"),
    ],
)  # fmt: skip
def test_frozen_weights_behind_a_copy_or_chosen_by_spikes(behind, operation):
    refused(Loose(behind=behind, w=weight(8, 3, frozen=True)), f"^w: weights of Loose: {HELD} {operation} outside")


def test_a_product_of_detached_spikes_and_a_constant():
    wanted = "^model: products and norms: expected layers, which are modules; got the operation mm outside"
    refused(Loose(behind=lambda net, s: net.out(s) + s.detach() @ PLAIN), wanted)


def test_a_frozen_read_out_that_only_the_loss_calls():
    net = Loose(behind=lambda net, s: s)
    net.out.requires_grad_(False)
    loss = lambda output, targets: mean_loss(net.out(output), targets)  # noqa: E731
    refused(net, f"^out.weight, out.bias|^out.bias, out.weight: weights of Linear: {HELD} addmm outside", loss)


def test_products_of_the_losss_own_are_no_work_of_the_network(tmp_path):
    loss = lambda output, targets: mean_loss(output @ torch.eye(3) * torch.ones(3), targets)  # noqa: E731
    made, _, _ = exported(Loose(), spikes(8), tmp_path / "t.npz", loss)
    assert not made.notes


def test_a_checkpoint_around_layers_is_one_line():
    class Checkpointed(Loose):
        def forward(self, x):
            call = super().forward
            return torch.stack([checkpoint(call, now[None], use_reentrant=False) for now in x]).sum(0)

    refused(Checkpointed(), "^model: layers: expected to run once: call them without a checkpoint; got torch.utils")


def test_a_hook_that_changes_a_parameters_gradient_does_not_change_the_layers(tmp_path):
    net = Loose()
    plain, _, _ = exported(net, spikes(8), tmp_path / "plain.npz")
    net.fc2.weight.register_hook(lambda grad: grad.clamp(-1e-3, 1e-3))
    made, _, _ = exported(net, spikes(8), tmp_path / "clipped.npz")
    ours, theirs = made.members["fc2.weight_grad"], plain.members["fc2.weight_grad"]
    assert float(abs(theirs).max()) > 1e-3
    assert torch.allclose(torch.tensor(ours), torch.tensor(theirs), rtol=1e-5, atol=1e-7)


class LowRank(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = weight(8, 2), weight(2, 8)

    def forward(self, w):
        return w + self.a @ self.b


def test_weights_that_are_made_of_others_say_so(tmp_path):
    """Pruning makes the weight anew before each call: it is not frozen."""
    net = Loose()
    parametrize.register_parametrization(net.fc2, "weight", LowRank())
    prune.random_unstructured(net.out, "weight", 0.5)
    made, _, report = exported(net, spikes(8), tmp_path / "t.npz")
    assert not report.unchecked
    for name in ("fc2", "out"):
        assert f"{name}: its weight is made of other parameters: the arithmetic of that is left out" in made.notes
    assert not [note for note in made.notes if "frozen" in note]

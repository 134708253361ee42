"""h2sim.fused's modules: the same values and gradients as torch's own modules around a LIF neuron."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import h2sim  # noqa: E402
from h2sim.fused import (  # noqa: E402
    FusedAvgPool2d,
    FusedBNLIF,
    FusedConv2d,
    FusedLIF,
    FusedLinear,
    FusedUnit,
)
from h2sim.train.lif import lif  # noqa: E402


class Layerwise(nn.Module):
    """The same layer with torch's modules, of the same names."""

    def __init__(self, unit):
        super().__init__()
        self.norm, self.reader, self.neuron = copy.deepcopy(unit.norm), copy.deepcopy(unit.reader), unit.neuron

    def forward(self, x):
        if self.norm is not None:
            flat = x.flatten(0, 1)
            flat = flat if flat.dim() == 4 else flat[..., None, None]
            x = self.norm(flat).reshape(x.shape)
        s = lif(x, self.neuron)
        if self.reader is None:
            return s
        read = s.flatten(2) if isinstance(self.reader, nn.Linear) else s.flatten(0, 1)
        out = self.reader(read)
        return out if isinstance(self.reader, nn.Linear) else torch.unflatten(out, 0, s.shape[:2])


UNITS = {
    "lif": lambda: (FusedLIF(), (5, 2, 3, 4, 4)),
    "bn": lambda: (FusedBNLIF(3), (5, 2, 3, 4, 4)),
    "conv": lambda: (FusedConv2d(3, 6, 3, padding=1, stride=2), (5, 2, 3, 7, 6)),
    "bn conv": lambda: (FusedConv2d(4, 6, (3, 1), groups=2, norm=True), (5, 2, 4, 7, 6)),
    "bn fc": lambda: (FusedLinear(7, 5, norm=True), (4, 3, 7)),
    "map fc": lambda: (FusedLinear(3 * 16, 5, norm=nn.BatchNorm2d(3, momentum=None)), (4, 3, 3, 4, 4)),
    "pool": lambda: (FusedAvgPool2d(2, norm=nn.BatchNorm2d(3, affine=False)), (4, 3, 3, 4, 4)),
}


def pair(kind):
    unit, shape = UNITS[kind]()
    if unit.norm is not None and unit.norm.affine:
        nn.init.uniform_(unit.norm.weight, 0.5, 1.5)
        nn.init.uniform_(unit.norm.bias, -0.2, 0.5)
    return unit, Layerwise(unit), torch.randn(shape)


def stepped(module, x):
    x = x.detach().requires_grad_()
    out = module(x)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    (out * weight).sum().backward()
    return out.detach(), x.grad, {name: p.grad for name, p in module.named_parameters()}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", UNITS)
def test_a_unit_has_the_values_gradients_and_buffers_of_torchs_modules(kind, training):
    unit, layerwise, x = pair(kind)
    for _ in range(2):
        ours, theirs = (stepped(module.train(training), x) for module in (unit, layerwise))
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5)
        x = x + 0.1
    assert list(unit.state_dict()) == list(layerwise.state_dict())
    torch.testing.assert_close(dict(unit.state_dict()), dict(layerwise.state_dict()))


def test_a_checkpoint_goes_from_torchs_modules_to_a_unit_and_back():
    unit, layerwise, x = pair("bn conv")
    layerwise(x)
    layerwise.reader.weight.data.mul_(3)
    unit.load_state_dict(layerwise.state_dict())
    torch.testing.assert_close(unit.eval()(x), layerwise.eval()(x))
    layerwise.load_state_dict(unit.state_dict())
    torch.testing.assert_close(unit(x), layerwise(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_currents_give_half_currents(dtype):
    unit, _, x = pair("bn conv")
    out = unit(x.to(dtype).requires_grad_())
    assert out.dtype == dtype
    out.float().square().sum().backward()
    assert unit.reader.weight.grad.dtype == unit.norm.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("implementation", ["plain", "numba"])
@pytest.mark.parametrize("kind", ["bn conv", "bn fc", "pool", "lif"])
def test_torch_compile_takes_a_unit_whole(kind, implementation):
    unit, _, x = pair(kind)
    unit.implementation = implementation
    other = copy.deepcopy(unit)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    ours, theirs = stepped(unit, x), stepped(compiled, x)
    torch.testing.assert_close(ours[:2], theirs[:2], rtol=2e-7, atol=0)
    torch.testing.assert_close(list(ours[2].values()), list(theirs[2].values()), rtol=2e-7, atol=0)
    torch.testing.assert_close(dict(unit.state_dict()), dict(other.state_dict()))


def test_the_operators_pass_torchs_own_checks():
    unit, _, x = pair("bn conv")
    from h2sim.fused import operators

    mean, _, inverse, count = operators.statistics(x, 1e-5, "auto", False)
    parameters = [p.detach().requires_grad_() for p in (unit.norm.weight, unit.norm.bias)]
    given = (x.requires_grad_(), *parameters, mean, inverse, count, unit.reader.weight, unit.reader.bias)
    torch.library.opcheck(operators.unit, (*given, *unit._texts, "auto", True, False))
    torch.library.opcheck(operators.statistics, (x.detach(), 1e-5, "auto", False))


@pytest.mark.parametrize("implementation", ["plain", "numba"])
def test_a_map_may_lie_in_any_order(implementation):
    unit, _, x = pair("bn conv")
    unit.implementation = implementation
    turned = x.transpose(3, 4).contiguous().transpose(3, 4)
    every_other = torch.repeat_interleave(x, 2, 4)[..., ::2]
    for other in (turned, every_other):
        torch.testing.assert_close(stepped(unit, other), stepped(unit, x))


def test_a_norm_of_several_processes_is_merged_unasked():
    """DDP takes a SyncBatchNorm on GPUs alone; test_processes.py merges on the processor."""
    assert FusedUnit(norm=nn.SyncBatchNorm(3)).merged
    assert not FusedUnit(norm=nn.BatchNorm2d(3)).merged
    assert not FusedUnit(norm=nn.SyncBatchNorm(3), merged=False).merged


def test_only_the_current_is_kept():
    kept = {}

    def pack(value):
        kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    unit, shape = FusedConv2d(8, 8, 3, padding=1, norm=True), (6, 2, 8, 16, 16)
    x = torch.randn(shape, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        unit(x)
    own = {value.untyped_storage().data_ptr() for value in (*unit.parameters(), *unit.buffers())}
    assert sum(size for place, size in kept.items() if place not in own) < x.numel() * 4 + 1000


REFUSED = [
    (lambda: FusedLIF(nn.ReLU()), TypeError, "neuron: expected a Neuron; got ReLU"),
    (lambda: FusedUnit(reader=nn.ReLU()), TypeError, "reader: expected Conv2d, Linear or AvgPool2d .* got ReLU"),
    (lambda: FusedUnit(norm=nn.LayerNorm(3)), TypeError, "norm: expected a BatchNorm of torch.nn; got LayerNorm"),
    (lambda: FusedUnit(reader=nn.Conv2d(1, 1, 3, padding="same")), ValueError, "a number of zeros; got 'same'"),
    (lambda: FusedUnit(reader=nn.AvgPool2d(2, ceil_mode=True)), ValueError, "divides by its whole window"),
    (lambda: FusedLIF()(torch.zeros(2, 3)), ValueError, r"expected \(T, N, C, H, W\) or \(T, N, C\); got \(2, 3\)"),
    (lambda: FusedBNLIF(3)(torch.zeros(2, 3, 4)), ValueError, r"expected 3 channels, the norm's; got \(2, 3, 4\)"),
    (lambda: FusedBNLIF(4)(torch.zeros(1, 1, 4)), ValueError, "expected more than 1 value per channel when training"),
    (lambda: FusedLIF(implementation="best")(torch.zeros(1, 1, 4)), ValueError, "one of auto, plain, numba, triton"),
]


@pytest.mark.parametrize(("make", "error", "said"), REFUSED, ids=[said for _, _, said in REFUSED])
def test_what_no_unit_can_be_is_refused(make, error, said):
    with pytest.raises(error, match=said):
        make()


def test_the_package_is_reached_from_h2sim():
    assert h2sim.fused.FusedLIF is FusedLIF

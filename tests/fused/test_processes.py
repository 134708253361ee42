"""Two processes under gloo train as one process does on the whole batch, with even and with uneven shares."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import distributed, multiprocessing, nn  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402

from h2sim.fused import FusedConv2d, FusedLinear  # noqa: E402
from h2sim.neuron import Neuron  # noqa: E402

STEPS, SAMPLES = 4, 6


class Network(nn.Module):
    """Currents of an image, then [BN-LIF-conv] and [BN-LIF-fc], over all timesteps."""

    def __init__(self, merged):
        super().__init__()
        self.conv = FusedConv2d(3, 5, 3, padding=1, neuron=Neuron(), norm=True, merged=merged, bias=False)
        self.fc = FusedLinear(5 * 6 * 6, 4, neuron=Neuron(), norm=nn.BatchNorm2d(5), merged=merged)

    def forward(self, x):
        return self.fc(self.conv(x)).mean(0)


def batch():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(STEPS, SAMPLES, 3, 6, 6, generator=generator)
    return x, torch.randint(4, (SAMPLES,), generator=generator)


def network(merged):
    torch.manual_seed(5)
    return Network(merged)


def trained(model, x, labels, share):
    (nn.functional.cross_entropy(model(x), labels) * share).backward()
    return model


def one_rank(rank, shares, address, results):
    distributed.init_process_group("gloo", init_method=f"file://{address}", rank=rank, world_size=len(shares))
    x, labels = batch()
    own = slice(sum(shares[:rank]), sum(shares[: rank + 1]))
    # a rank's loss is a mean over its own samples, and DDP takes the mean of the ranks' gradients
    share = shares[rank] * len(shares) / SAMPLES
    model = trained(DistributedDataParallel(network(merged=True)), x[:, own], labels[own], share).module
    torch.save(({name: p.grad for name, p in model.named_parameters()}, model.state_dict()), f"{results}/{rank}")
    distributed.destroy_process_group()


@pytest.mark.parametrize("shares", [(3, 3), (4, 2)])
def test_two_processes_have_the_gradients_and_statistics_of_one(shares, tmp_path):
    alone = trained(network(merged=False), *batch(), 1.0)
    address = tmp_path / "address"
    multiprocessing.spawn(one_rank, (shares, address, tmp_path), nprocs=len(shares))
    for rank in range(len(shares)):
        grads, state = torch.load(tmp_path / str(rank))
        for name, parameter in alone.named_parameters():
            torch.testing.assert_close(grads[name], parameter.grad, rtol=2e-6, atol=2e-7, msg=name)
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(state[name], value)

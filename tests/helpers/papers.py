"""Networks as the code of papers writes them: their own neurons, containers and norms, in their own layouts of time.

Each class follows the structure of the public code that its docstring names, at small sizes; the neuron modules have a
method h2sim_neuron beside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from h2sim.export import NeuronSpec
from tests.helpers.models import Spike, fire_rectangle

Tensor = torch.Tensor


class LIFSpike(nn.Module):
    """TET's neuron (Gu-Shi's TEBN and others have the same): it holds no state between calls, and reads (N, T, ...)."""

    def __init__(self, thresh: float = 0.25, tau: float = 0.5) -> None:
        super().__init__()
        self.thresh, self.tau = thresh, tau

    def forward(self, x: Tensor) -> Tensor:
        mem: Any = 0
        spike_pot = []
        for t in range(x.shape[1]):
            mem = mem * self.tau + x[:, t, ...]
            spike = fire_rectangle(mem - self.thresh)
            mem = (1 - spike) * mem
            spike_pot.append(spike)
        return torch.stack(spike_pot, dim=1)

    def h2sim_neuron(self) -> NeuronSpec:
        return NeuronSpec(
            decay=self.tau, threshold=self.thresh, fire=fire_rectangle, multi_step=True, surrogate="rectangle"
        )


class SeqToANNContainer(nn.Module):
    """TET: layers of one timestep over (N, T, ...), by time folded into the batch."""

    def __init__(self, *args: nn.Module) -> None:
        super().__init__()
        self.module = args[0] if len(args) == 1 else nn.Sequential(*args)

    def forward(self, x_seq: Tensor) -> Tensor:
        y_shape = [x_seq.shape[0], x_seq.shape[1]]
        y_seq = self.module(x_seq.flatten(0, 1).contiguous())
        y_shape.extend(y_seq.shape[1:])
        folded: Tensor = y_seq.view(y_shape)
        return folded


class TetLayer(nn.Module):
    """TET's `Layer`: convolution, batch norm and neuron."""

    def __init__(self, in_plane: int, out_plane: int, kernel_size: int, stride: int, padding: int) -> None:
        super().__init__()
        self.fwd = SeqToANNContainer(
            nn.Conv2d(in_plane, out_plane, kernel_size, stride, padding), nn.BatchNorm2d(out_plane)
        )
        self.act = LIFSpike()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.fwd(x))
        return out


class TetVgg(nn.Module):
    """TET's VGGSNN for CIFAR10-DVS, narrow: average pools, all by one pool module, and the outputs of all timesteps."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        pool = SeqToANNContainer(nn.AvgPool2d(2))
        self.features = nn.Sequential(
            TetLayer(2, 4, 3, 1, 1), TetLayer(4, 6, 3, 1, 1), pool, TetLayer(6, 6, 3, 1, 1), pool
        )
        self.classifier = nn.Sequential(nn.Dropout(0.25), SeqToANNContainer(nn.Linear(6 * 3 * 3, classes)))

    def forward(self, input: Tensor) -> Tensor:
        x: Tensor = self.features(input)
        x = torch.flatten(x, 2)
        out: Tensor = self.classifier(x)
        return out


class tdLayer(nn.Module):
    """TET's resnet: a layer of one timestep over (N, T, ...), with an optional norm."""

    def __init__(self, layer: nn.Module, bn: nn.Module | None = None) -> None:
        super().__init__()
        self.layer, self.bn = SeqToANNContainer(layer), bn

    def forward(self, x: Tensor) -> Tensor:
        x_ = self.layer(x)
        if self.bn is not None:
            x_ = self.bn(x_)
        out: Tensor = x_
        return out


class TetBatchNorm2d(nn.Module):
    """TET's tdBatchNorm: a batch norm over timesteps and samples, by a container."""

    def __init__(self, out_panel: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(out_panel)
        self.seqbn = SeqToANNContainer(self.bn)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.seqbn(x)
        return y


class TetBlock(nn.Module):
    """TET's BasicBlock (its resnet19): one stateless neuron module at both places, and `out += identity`."""

    def __init__(self, inplanes: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1_s = tdLayer(nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False), TetBatchNorm2d(planes))
        self.conv2_s = tdLayer(nn.Conv2d(planes, planes, 3, 1, 1, bias=False), TetBatchNorm2d(planes))
        self.downsample = None
        if stride != 1 or inplanes != planes:
            self.downsample = tdLayer(nn.Conv2d(inplanes, planes, 1, stride, bias=False), TetBatchNorm2d(planes))
        self.spike = LIFSpike()

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.conv1_s(x)
        out = self.spike(out)
        out = self.conv2_s(out)
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        spikes: Tensor = self.spike(out)
        return spikes


class TetResNet(nn.Module):
    """TET's resnet19, narrow and short: global average and two linear layers per timestep."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.conv1_s = tdLayer(nn.Conv2d(2, 4, 3, 1, 1, bias=False), TetBatchNorm2d(4))
        self.layer1 = nn.Sequential(TetBlock(4, 4), TetBlock(4, 6, 2))
        self.avgpool = tdLayer(nn.AdaptiveAvgPool2d((1, 1)))
        self.fc1_s, self.fc2_s = tdLayer(nn.Linear(6, 8)), tdLayer(nn.Linear(8, classes))
        self.spike = LIFSpike()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1_s(x)
        x = self.spike(x)
        x = self.layer1(x)
        x = self.avgpool(x)
        x = torch.flatten(x, 2)
        x = self.spike(self.fc1_s(x))
        out: Tensor = self.fc2_s(x)
        return out


def tet_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """TET's loss with lamb = 0: the mean over the timesteps of (N, T, classes) of their cross-entropy."""
    steps = outputs.size(1)
    loss: Any = 0
    for t in range(steps):
        loss += functional.cross_entropy(outputs[:, t, ...], labels)
    mean: Tensor = loss / steps
    return mean


class TimeLastLif(nn.Module):
    """STBP-simple's LIFSpike, of tdBN: it reads (N, C, H, W, T)."""

    def __init__(self, thresh: float = 0.5, decay: float = 0.25) -> None:
        super().__init__()
        self.thresh, self.decay = thresh, decay

    def forward(self, x: Tensor) -> Tensor:
        steps = x.shape[-1]
        u = torch.zeros(x.shape[:-1], device=x.device)
        out = torch.zeros(x.shape, device=x.device)
        for step in range(steps):
            u = self.decay * u * (1 - out[..., max(step - 1, 0)]) + x[..., step]
            out[..., step] = fire_rectangle(u - self.thresh)
        return out

    def h2sim_neuron(self) -> NeuronSpec:
        return NeuronSpec(
            decay=self.decay, threshold=self.thresh, fire=fire_rectangle, multi_step=True, surrogate="rectangle"
        )


class TimeLastLayer(nn.Module):
    """STBP-simple's tdLayer: a layer of one timestep over (N, C, H, W, T), timestep by timestep."""

    def __init__(self, layer: nn.Module, bn: nn.Module | None = None) -> None:
        super().__init__()
        self.layer, self.bn = layer, bn

    def forward(self, x: Tensor) -> Tensor:
        steps = x.shape[-1]
        first = self.layer(x[..., 0])
        x_ = torch.zeros((*first.shape, steps), device=x.device)
        for step in range(steps):
            x_[..., step] = self.layer(x[..., step])
        if self.bn is not None:
            x_ = self.bn(x_)
        return x_


class TimeLastNorm(nn.BatchNorm2d):
    """STBP-simple's tdBatchNorm: statistics over samples, positions and time, a scale of alpha * Vth."""

    def __init__(self, num_features: int, alpha: float = 1.0, thresh: float = 0.5) -> None:
        super().__init__(num_features)
        self.alpha, self.thresh = alpha, thresh

    def forward(self, input: Tensor) -> Tensor:
        average: Any = 0.0
        mean: Any
        var: Any
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
            average = self.momentum
        if self.training:
            mean = input.mean([0, 2, 3, 4])
            var = input.var([0, 2, 3, 4], unbiased=False)
            n = input.numel() / input.size(1)
            with torch.no_grad():
                self.running_mean = average * mean + (1 - average) * self.running_mean
                self.running_var = average * var * n / (n - 1) + (1 - average) * self.running_var
        else:
            mean, var = self.running_mean, self.running_var
        input = self.alpha * self.thresh * (input - mean[None, :, None, None, None])
        input = input / (torch.sqrt(var[None, :, None, None, None] + self.eps))
        input = input * self.weight[None, :, None, None, None] + self.bias[None, :, None, None, None]
        return input


class TdbnNet(nn.Module):
    """STBP-simple's CIFAR network with tdBN, narrow: average pools of spikes, the mean over time as output."""

    def __init__(self, classes: int = 3, steps: int = 2) -> None:
        super().__init__()
        self.steps = steps
        self.conv1_s = TimeLastLayer(nn.Conv2d(2, 4, 3, 1, 1, bias=False), TimeLastNorm(4))
        self.pool1_s = TimeLastLayer(nn.AvgPool2d(2))
        self.conv2_s = TimeLastLayer(nn.Conv2d(4, 6, 3, 1, 1, bias=False), TimeLastNorm(6))
        self.pool2_s = TimeLastLayer(nn.AvgPool2d(2))
        self.fc1_s, self.fc2_s = TimeLastLayer(nn.Linear(6 * 3 * 3, 8)), TimeLastLayer(nn.Linear(8, classes))
        self.spike = TimeLastLif()

    def forward(self, x: Tensor) -> Tensor:
        x = x[..., None].expand(*x.shape, self.steps)
        x = self.spike(self.conv1_s(x))
        x = self.pool1_s(x)
        x = self.spike(self.conv2_s(x))
        x = self.pool2_s(x)
        x = x.view(x.shape[0], -1, x.shape[4])
        x = self.spike(self.fc1_s(x))
        x = self.fc2_s(x)
        out = torch.sum(x, dim=2) / self.steps
        return out


class DietVgg(nn.Module):
    """DIET-SNN's and HIRE-SNN's VGG, narrow: membranes and masks in forward, leaks and thresholds of each layer learnt.

    Their neuron is arithmetic inside forward; here it is a module per layer, called once per timestep.
    """

    def __init__(self, neuron: Any, steps: int = 3, classes: int = 3, dropout: float = 0.2) -> None:
        super().__init__()
        self.steps = steps
        self.features = nn.ModuleList([
            nn.Conv2d(3, 6, 3, padding=1, bias=False), neuron(), nn.Dropout(dropout),
            nn.Conv2d(6, 6, 3, padding=1, bias=False), neuron(), nn.AvgPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1, bias=False), neuron(), nn.AvgPool2d(2),
        ])  # fmt: skip
        self.classifier = nn.ModuleList([
            nn.Linear(8 * 2 * 2, 16, bias=False), neuron(), nn.Dropout(dropout), nn.Linear(16, classes, bias=False),
        ])  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        masks: dict[int, Tensor] = {}
        mem: Any = 0
        for _ in range(self.steps):
            out = x
            for place, each in enumerate([*self.features, *self.classifier]):
                if isinstance(each, nn.Linear) and out.dim() == 4:
                    out = out.reshape(len(out), -1)
                if isinstance(each, nn.Dropout):
                    if place not in masks:
                        masks[place] = each(torch.ones_like(out))
                    out = out * masks[place]
                    continue
                out = each(out)
            mem = mem + out
        total: Tensor = mem
        return total


class MsBlock(nn.Module):
    """MS-ResNet's block (Hu et al.): neuron, convolution, norm, twice; the shortcut carries the membrane current."""

    def __init__(self, neuron: Any, in_planes: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.residual_function = nn.Sequential(
            neuron(), nn.Conv2d(in_planes, planes, 3, stride, 1, bias=False), nn.BatchNorm2d(planes),
            neuron(), nn.Conv2d(planes, planes, 3, 1, 1, bias=False), nn.BatchNorm2d(planes),
        )  # fmt: skip
        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(2, stride), nn.Conv2d(in_planes, planes, 1, bias=False), nn.BatchNorm2d(planes)
            )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.residual_function(x) + self.shortcut(x)
        return out


class MsResNet(nn.Module):
    """MS-ResNet, narrow and short, once per timestep on an image; the mean of the outputs."""

    def __init__(self, neuron: Any, steps: int = 2, classes: int = 3) -> None:
        super().__init__()
        self.steps = steps
        self.conv1 = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.blocks = nn.Sequential(MsBlock(neuron, 4, 4), MsBlock(neuron, 4, 6, 2))
        self.neuron, self.fc = neuron(), nn.Linear(6, classes)

    def step(self, x: Tensor) -> Tensor:
        x = self.neuron(self.blocks(self.conv1(x)))
        x = functional.adaptive_avg_pool2d(x, (1, 1))
        out: Tensor = self.fc(x.view(x.size(0), -1))
        return out

    def forward(self, x: Tensor) -> Tensor:
        outs = [self.step(x) for _ in range(self.steps)]
        return sum(outs[1:], outs[0]) / self.steps


class Above(Spike):
    """m > threshold, with the derivative of Spike."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u > 0).to(u.dtype)


fire_above: Callable[[Tensor], Tensor] = Above.apply  # torch leaves apply untyped


class FiresLif(nn.Module):
    """The neuron of snn_gpu_training_bptt over (T, N, ...): it fires above its threshold, and keeps its reset."""

    alpha, thresh = 0.25, 0.25

    def forward(self, y: Tensor) -> Tensor:
        m = s = torch.zeros_like(y[0])
        out = []
        for now in y:
            m = self.alpha * m * (1 - s) + now
            s = fire_above(m - self.thresh)
            out.append(s)
        return torch.stack(out)

    def h2sim_neuron(self) -> NeuronSpec:
        return NeuronSpec(
            decay=self.alpha, threshold=self.thresh, fire=fire_above, multi_step=True, time_axis=0,
            fires_at="greater", surrogate="rectangle",
        )  # fmt: skip


class CifarBn(nn.Module):
    """CIFAR_BN of snn_gpu_training_bptt, narrow: batch norm and neuron before every product but the first.

    The last is a product of the mean over time.
    """

    def __init__(self, steps: int = 3, classes: int = 3) -> None:
        super().__init__()
        self.steps = steps
        self.convs = nn.ModuleList([nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1)])
        self.fcs = nn.ModuleList([nn.Linear(6 * 2 * 2, 16), nn.Linear(16, 8)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.BatchNorm2d(6), nn.BatchNorm1d(16)])
        self.last_norm, self.lifs = nn.BatchNorm1d(8), nn.ModuleList([FiresLif() for _ in range(5)])
        self.fc_out = nn.Linear(8, classes)

    def fired(self, place: int, x: Tensor) -> Tensor:
        """Norm and neuron of a place, on (T * N, ...)."""
        norm = self.norms[place] if place < len(self.norms) else self.last_norm
        y = norm(x)
        s: Tensor = self.lifs[place](y.view(self.steps, -1, *y.shape[1:]))
        return s.flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(0).repeat(self.steps, 1, 1, 1, 1).flatten(0, 1)
        for place, conv in enumerate(self.convs):
            x = self.fired(place, conv(x))
        x = x.flatten(1)
        for place, fc in enumerate(self.fcs, start=len(self.convs)):
            x = self.fired(place, fc(x))
        out: Tensor = self.fc_out(x.view(self.steps, -1, 8).mean(0))
        return out

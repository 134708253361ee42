"""SpikingJelly's neurons in place of h2sim's: by its torch formulas with h2sim's surrogate, or by its fused kernels."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, ClassVar

import torch

from h2sim.gpu.implementations import Implementation
from h2sim.gpu.network import Plain, by_layer
from h2sim.train.lif import Neuron, fire


def _kinds(neurons: list[Neuron]) -> list[str]:
    """SpikingJelly's names of neurons that leak and of those that do not."""
    return sorted({"if" if neuron.decay == 1 else "lif" for neuron in neurons})


def _variable(kind: str) -> str:
    """The environment variable that chooses between SpikingJelly's kernels."""
    return f"SJ_{kind.upper()}_CUDA_IMPLEMENTATION"


class SpikingJelly(Implementation):
    """Layer by layer; neurons are SpikingJelly's LIF over all timesteps, by its torch formulas."""

    notes = ("neurons: SpikingJelly's LIF without decay of its input, torch formulas, h2sim's surrogate",)

    @classmethod
    def lacks(cls, neurons: list[Neuron], device: str) -> tuple[str, str] | None:
        if find_spec("spikingjelly") is None:
            return "the package spikingjelly (pip install 'h2sim[export]')", "none"
        other = next((n for n in neurons if n.reset not in ("zero", "subtract") or not 0 < n.decay <= 1), None)
        if other is not None:
            return "neurons that SpikingJelly has: reset zero or subtract, decay above 0 and at most 1", str(other)
        return cls.other_choice(neurons, device)

    @classmethod
    def other_choice(cls, neurons: list[Neuron], device: str) -> tuple[str, str] | None:
        """As `lacks`, of the user's choice of kernels, which SpikingJelly reads when it is imported."""
        for name in map(_variable, _kinds(neurons) if device.startswith("cuda") else ()):
            if os.environ.get(name, "auto") != "auto":
                return f"{name}=auto, for its kernels do not know h2sim's surrogate", os.environ[name]
        return None

    def output(self, ops: Plain, inputs: torch.Tensor) -> torch.Tensor:
        return by_layer(ops, inputs, self.timesteps, self._fired)

    def _fired(self, current: torch.Tensor, neuron: Neuron) -> torch.Tensor:
        from spikingjelly.activation_based import functional

        v = torch.zeros_like(current[0], dtype=torch.promote_types(current.dtype, torch.float32))
        how = neuron.threshold, 0.0 if neuron.reset == "zero" else None, self.surrogate(neuron), neuron.detach_reset
        leak = () if neuron.decay == 1 else (1 / (1 - neuron.decay), False)
        run = functional.lif_multi_step if leak else functional.if_multi_step
        s: torch.Tensor = run(current, v, *leak, *how)[0]
        return s

    def surrogate(self, neuron: Neuron) -> Callable[[torch.Tensor], torch.Tensor]:
        """Spikes of m - th_f, with a derivative."""
        return lambda above: fire(above + neuron.threshold, neuron)


class SpikingJellyTriton(SpikingJelly):
    """The same by SpikingJelly's own Triton kernels, which have no rectangle: of these only the time means anything."""

    notes = (
        "neurons: SpikingJelly's LIF without decay of its input, fused kernels, surrogate ATan, which has the cost of "
        "others: its time can be compared, its gradients are not h2sim's",
    )
    kernels: ClassVar[str] = "triton"

    @classmethod
    def lacks(cls, neurons: list[Neuron], device: str) -> tuple[str, str] | None:
        if not device.startswith("cuda"):
            return "--device cuda", device
        if any(neuron.fires_at == "greater" for neuron in neurons):
            return "neurons that fire at their threshold", "neurons that fire above it"
        return super().lacks(neurons, device)

    @classmethod
    def other_choice(cls, neurons: list[Neuron], device: str) -> tuple[str, str] | None:
        from spikingjelly.activation_based import functional

        for kind in _kinds(neurons):
            wanted = f"SpikingJelly to take its {cls.kernels} kernels ({_variable(kind)}={cls.kernels})"
            try:
                found = functional.neuron_implementation(kind, torch.device(device))["implementation"]
            except (RuntimeError, ValueError) as fault:
                return wanted, str(fault).splitlines()[0][:200]
            if found != cls.kernels:
                return wanted, str(found)
        return None

    def surrogate(self, neuron: Neuron) -> Any:
        from spikingjelly.activation_based import surrogate

        return surrogate.ATan()


class SpikingJellyCuda(SpikingJellyTriton):
    """The same by SpikingJelly's native CUDA kernels, which its version 2 has in the place of those of cupy."""

    kernels = "cuda"

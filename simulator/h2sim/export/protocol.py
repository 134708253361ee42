"""What the exporter must know of a neuron, whatever library it is from: NeuronSpec; of an integrator: ReadOut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

Reset = Literal["zero", "subtract", "subtract-after-leak", "none"]
METHOD = "h2sim_neuron"


@dataclass(frozen=True, kw_only=True)
class NeuronSpec:
    """The equation of a neuron module: v[t] = decay * kept[t-1] + gain * x[t], s[t] = v[t] >= threshold (eq. 2.1-2.3).

    kept is v after the reset: v * (1 - s) for 'zero', v - threshold * s for 'subtract', v for 'none'. It starts at 0.
    'subtract-after-leak' keeps v and takes threshold * s[t-1] off v[t].
    decay, gain and threshold are numbers, the same for all neurons. A neuron that resets to another value, or leaks
    towards one, is described with v minus that value in place of v.

    fire: s as a differentiable function of v - threshold, whose derivative is the surrogate. surrogate: its name.
    detach_reset: the gradient does not pass through the reset. multi_step: one call takes all timesteps; else T calls
    take (N, ...). time_axis: of a call for all timesteps, which axis is time: 0 is (T, N, ...), 1 is (N, T, ...), -1 is
    (N, ..., T); None: the exporter finds the one under which the spikes follow the equation. flat_timesteps: T, where
    one call takes (N * T, ...) with the timesteps of a sample side by side (time_axis 1), or (T * N, ...) (time_axis
    0). flat_samples: N, of a module of that kind which knows N instead of T. membrane: for any other equation, the
    function that gives v (T, N, ...) from x and s, (T, N, ...); masks are then still exact, and the trace says
    `"equation": "other"`. notes: what the reader of an export should know.

    A module of your own says what it is by a method `h2sim_neuron`:

        class MyLif(torch.nn.Module):
            def h2sim_neuron(self):
                return NeuronSpec(decay=0.5, threshold=1.0, fire=MySpike.apply, surrogate="triangle")
    """

    decay: float
    threshold: float
    fire: Callable[[torch.Tensor], torch.Tensor]
    reset: Reset = "zero"
    gain: float = 1.0
    detach_reset: bool = False
    multi_step: bool = False
    time_axis: Literal[0, 1, -1] | None = None
    flat_timesteps: int | None = None
    flat_samples: int | None = None
    surrogate: str = "unnamed"
    membrane: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None
    fires_at: Literal["greater_equal", "greater"] = "greater_equal"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError for a way to lay out time that there is not."""
        flat = self.flat_timesteps is not None or self.flat_samples is not None
        if flat and (not self.multi_step or self.time_axis not in (0, 1)):
            raise ValueError("flat_timesteps and flat_samples need multi_step and a time_axis of 0 or 1")

    @property
    def equation(self) -> Literal["lif", "other"]:
        """'lif' if the source's equation holds, else 'other'."""
        return "lif" if self.membrane is None else "other"

    @property
    def scale(self) -> float:
        """v = scale * m: the trace holds the membrane m = v / gain, which x drives with factor 1.

        The membrane is divided, rather than weights multiplied, because weights, currents and gradients (dL/dm = dL/dx)
        then stay as the library has them, and because a pool or a sum has no weight.
        """
        return self.gain if self.membrane is None else 1.0

    def __str__(self) -> str:
        fires = ">" if self.fires_at == "greater" else ">="
        kept = {"zero": "v[t-1] (1 - s[t-1])", "subtract": f"(v[t-1] - {self.threshold:g} s[t-1])"}
        taken = f" - {self.threshold:g} s[t-1]" if self.reset == "subtract-after-leak" else ""
        gain = "" if self.gain == 1 else f"{self.gain:g} "
        if self.membrane is not None:
            return f"s[t] = v[t] {fires} {self.threshold:g} with the equation of its class"
        left = f"{self.decay:g} {kept.get(self.reset, 'v[t-1]')}{taken}"
        return f"v[t] = {left} + {gain}x[t], s[t] = v[t] {fires} {self.threshold:g}"


@dataclass(frozen=True, kw_only=True)
class ReadOut:
    """An integrator without spikes behind the last weights: what the loss reads, and no layer of a trace.

    weight: the weights that it holds itself, (out, in), for one that multiplies what it reads; bias: (out,).
    """

    weight: torch.Tensor | None = None
    bias: torch.Tensor | None = None

"""A neuron's parameters, which libraries hold as one number or as one value per neuron."""

from __future__ import annotations

import torch


def values(parameter: torch.Tensor) -> torch.Tensor:
    """A parameter on the CPU: one number () if all its values are equal, else one per neuron, as the library has it."""
    parameter = parameter.detach().cpu()
    first = parameter.reshape(-1)[0]
    return first if bool((parameter == first).all()) else parameter

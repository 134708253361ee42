"""SpikingJelly's own networks, which import torchvision, made importable where torchvision does not load.

The torchvision that the registry has for torch 2.13 is linked to CUDA, and no other one goes with CPU torch: its
library does not load, and its import then fails over operators that the library should have declared
('operator torchvision::nms does not exist'). The networks call none of them, so declaring them is enough.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

OPERATORS = ("nms", "qnms")
_torch: Any = torch  # these parts of it have no types
_declared = _torch.library.Library("torchvision", "FRAGMENT")


def let_torchvision_import() -> None:
    """Loads torchvision's library; where that fails, declares the operators that its import asks for."""
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("torchvision: not installed")
    try:
        for library in Path(spec.origin).parent.glob("_C.*"):
            _torch.ops.load_library(library)
    except OSError:
        for name in OPERATORS:
            _declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


let_torchvision_import()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from spikingjelly.activation_based.model import (
        ms_resnet,
        parametric_lif_net,
        sew_resnet,
        spikformer,
        spiking_resnet,
        spiking_vgg,
    )

__all__ = ["ms_resnet", "parametric_lif_net", "sew_resnet", "spikformer", "spiking_resnet", "spiking_vgg"]

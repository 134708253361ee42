"""Rules that say which layer and phase a kernel belongs to: the user's, and those for PyTorch's own names."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from h2sim.errors import GpuTraceError, at
from h2sim.gpu.trace import ROW_PHASES, RowPhase, printable
from h2sim.io.faults import describe
from h2sim.io.strict import Name, Strict
from h2sim.io.yamlfile import read_file

# cuDNN's and CUTLASS's names for the kernels of a convolution's two gradients
_WEIGHT = re.compile(r"wgrad|bwd_?filter|backward_?filter|backward_?weight", re.IGNORECASE)
_INPUT = re.compile(r"dgrad|bwd_?data|backward_?data|backward_?input", re.IGNORECASE)
_WORD = re.compile(r"\w+")
FC_BACKWARD = re.compile(r"(addmm|mm|bmm|linear|matmul)backward", re.IGNORECASE)
BACKWARD = re.compile(r"backward|autograd::engine::evaluate_function", re.IGNORECASE)
PRODUCT = re.compile(r"aten::(mm|bmm|addmm|baddbmm)")
_LABEL = re.compile(r"(?P<ours>h2sim:)?(?P<layer>.+?)(?::(?P<phase>forward|backward|weight_update|other))?")


def _regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as fault:
        raise ValueError(f"expected a regular expression; got {text!r}: {fault}") from None
    return text


Regex = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_regex)]


@lru_cache(maxsize=1 << 14)
def is_conv_backward(name: str) -> bool:
    """Whether an operation computes a convolution's gradients: a word with `conv` and, behind it, `backward`.

    As a pattern (conv\\w*backward) this would take a time that grows with the square of the name's length.
    """
    return any(0 <= word.find("conv") < word.rfind("backward") - 3 for word in _WORD.findall(name.lower()))


class Rule(Strict):
    """One rule: kernels that match it belong to `layer` (and `phase`, if given).

    kernel: a regular expression that is found in the kernel's name. op: one that is found in the name of an operation
    or range around it. At least one of the two is given.
    """

    kernel: Regex | None = None
    op: Regex | None = None
    layer: Name
    phase: RowPhase | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.kernel is None and self.op is None:
            raise ValueError("expected kernel, op or both; got neither")
        return self

    def holds(self, kernel: str, around: list[str]) -> bool:
        """Whether the rule matches a kernel. around: names of the operations and ranges in which it was launched."""
        if self.kernel is not None and not re.search(self.kernel, kernel):
            return False
        return self.op is None or any(re.search(self.op, name) for name in around)


class _File(Strict):
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]


# what PyTorch itself names and belongs to no layer; asked after the user's rules and the ranges
OWN_RULES = (
    Rule(op=r"^Optimizer\.", layer="optimizer", phase="other"),
    Rule(op=r"^enumerate\(DataLoader\)", layer="data", phase="other"),
    Rule(op=r"AccumulateGrad", layer="gradient accumulation", phase="other"),
)


def load_rules(path: Path, layers: Collection[str]) -> tuple[Rule, ...]:
    """The rules of a YAML file, in order. layers: names of the network's layers.

    Raises GpuTraceError, one line per fault.
    """
    data = read_file(path, GpuTraceError)
    try:
        rules = _File.model_validate(data).rules
    except ValidationError as error:
        raise GpuTraceError(*describe(error, _File, str(path))) from None
    for number, rule in enumerate(rules):
        if rule.phase != "other" and rule.layer not in layers:
            known = f"a layer of the network ({', '.join(layers)}), or phase other"
            raise GpuTraceError(at(str(path), f"rules.{number}.layer", known, rule.layer))
    return rules


def read_label(name: str, layers: Collection[str]) -> tuple[str, RowPhase | None] | None:
    """(layer, phase) that a range's name says, or None if it names no layer. The phase is None if the name has none.

    Names: `conv1`, `conv1:backward`, `h2sim:conv1`, `h2sim:loss`. A name that begins with h2sim: and is no layer's has
    the phase other.
    """
    found = _LABEL.fullmatch(name)
    if found is None:
        return None
    if name.removeprefix("h2sim:") in layers:
        return name.removeprefix("h2sim:"), None
    layer = found["layer"]
    if layer in layers:
        return layer, next((phase for phase in ROW_PHASES if phase == found["phase"]), None)
    said = printable(layer)
    return (said, "other") if found["ours"] and said else None


@lru_cache(maxsize=1 << 14)
def gradient_of(kernel: str) -> Literal["backward", "weight_update"] | None:
    """The gradient that a kernel computes, by its name: the input's (backward) or the weights'.

    None if the name is silent.
    """
    if _WEIGHT.search(kernel):
        return "weight_update"
    return "backward" if _INPUT.search(kernel) else None

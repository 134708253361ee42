"""Compiles the Triton kernels' variants without a GPU: `python -m tests.fused.cubins [--all]`.

--all: every variant for every type, and for sm_70, sm_80 and sm_90, two minutes; else every variant in float32 for
sm_90, and some for the other types and architectures. On sm_90 nothing spills into local memory, and no multiplication
is rounded together with an addition.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from h2sim.fused import triton_kernels as kernels
from h2sim.fused.tiles import CHANNELS, HOW, MOST_STEPS_IN_REGISTERS, POSITIONS

FLOATS = {
    "decay", "fires_from", "threshold", "low", "high", "eta", "attached", "zeroed", "before", "after",
}  # fmt: skip
TYPES = ("fp32", "fp16", "bf16")
ARCHITECTURES = (70, 80, 90)
Variant = tuple[Any, dict[str, Any]]
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


def variants() -> Iterator[Variant]:
    """(kernel, constants): all that changes the code that is made. STEPS: the most in registers, or none of them."""
    for tile in ({"BC": 1, "BP": POSITIONS}, {"BC": CHANNELS, "BP": POSITIONS // CHANNELS}):
        yield kernels.moments, tile
        for norm in (False, True):
            yield kernels.spikes, {"BN": norm} | tile
        for (norm, sums), triangle, steps in product(
            ((False, False), (True, True), (True, False)), (False, True), (0, MOST_STEPS_IN_REGISTERS)
        ):
            yield kernels.gradients, {"BN": norm, "SUMS": sums, "TRIANGLE": triangle, "STEPS": steps} | tile


def wanted(every: bool) -> Iterator[tuple[Variant, str, int]]:
    """(variant, type, architecture): see the module."""
    for index, variant in enumerate(variants()):
        for dtype, architecture in product(TYPES, ARCHITECTURES):
            if every or (dtype, architecture) == ("fp32", 90) or index % 10 == 1:
                yield variant, dtype, architecture


def compiled(kernel: Any, constants: dict[str, Any], dtype: str, architecture: int, how: dict[str, Any] = HOW) -> Any:
    """The kernel made for maps of a type; sums, norms and membranes are float32."""
    maps = {"x_base", "s_base", "g_base"}
    signature = {}
    for name in kernel.arg_names:
        if name in constants:
            signature[name] = "constexpr"
        elif name.endswith("_base"):
            signature[name] = f"*{dtype if name in maps else 'fp32'}"
        else:
            signature[name] = "fp32" if name in FLOATS else "i64" if name[-2:] in ("_T", "_B", "_C", "_P") else "i32"
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    return triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=how)


def assembly(cubin: bytes, folder: Path) -> str:
    """What nvdisasm or cuobjdump of Triton's own package prints of the machine code."""
    file = folder / "kernel.cubin"
    file.write_bytes(cubin)
    said = subprocess.run([TOOLS / "cuobjdump", "-sass", file], capture_output=True, text=True, check=True).stdout
    assert len(re.findall(r"/\*[0-9a-f]{4}\*/", said)) > 20, said  # there is code in it
    return said


def main(every: bool) -> None:
    made = 0
    with TemporaryDirectory() as folder:
        for (kernel, constants), dtype, architecture in wanted(every):
            cubin = compiled(kernel, constants, dtype, architecture).asm["cubin"]
            assert len(cubin) > 1000
            made += 1
            if architecture == 90:
                code = assembly(cubin, Path(folder))
                # a division, which a triangle has, is made of such steps, and is rounded once all the same
                refused = ("LDL", "STL") if constants.get("TRIANGLE") else ("LDL", "STL", "FFMA")
                found = re.findall(rf"\b(?:{'|'.join(refused)})\b.*", code)
                assert not found, (kernel.__name__, constants, dtype, found[:3])
    fused = compiled(kernels.spikes, {"BN": True, "BC": 1, "BP": POSITIONS}, "fp32", 90, {"enable_fp_fusion": True})
    with TemporaryDirectory() as folder:  # the search finds what it looks for where it is allowed
        assert "FFMA" in assembly(fused.asm["cubin"], Path(folder))
    print(f"{made} variants compiled")


if __name__ == "__main__":
    main("--all" in sys.argv[1:])

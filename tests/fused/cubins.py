"""Compiles the Triton kernels' variants for sm_70, sm_80 and sm_90, without a GPU: `python -m tests.fused.cubins`.

On sm_90 nothing spills into local memory, and no multiplication is rounded together with an addition.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
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
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


def variants() -> Iterator[tuple[Any, dict[str, Any]]]:
    """(kernel, constants): what changes the code that is made, each value of each at least once."""
    nchw, across = {"BC": 1, "BP": POSITIONS}, {"BC": CHANNELS, "BP": POSITIONS // CHANNELS}
    yield kernels.moments, nchw
    yield kernels.spikes, {"BN": False} | nchw
    yield kernels.spikes, {"BN": True} | across
    most = MOST_STEPS_IN_REGISTERS
    yield kernels.gradients, {"BN": False, "SUMS": False, "TRIANGLE": False, "STEPS": most} | nchw
    yield kernels.gradients, {"BN": True, "SUMS": True, "TRIANGLE": False, "STEPS": most} | nchw
    yield kernels.gradients, {"BN": True, "SUMS": False, "TRIANGLE": True, "STEPS": 0} | across


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


def main() -> None:
    made = 0
    with TemporaryDirectory() as folder:
        for kernel, constants in variants():
            for dtype in TYPES:
                for architecture in ARCHITECTURES:
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
    main()

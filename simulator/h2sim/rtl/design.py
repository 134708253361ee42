"""Verilog of an engine: one module per unit, however many instances there are."""

from __future__ import annotations

import re

from amaranth import ClockSignal, Elaboratable, Fragment, Instance, Module, Signal
from amaranth.back import verilog
from amaranth.lib.wiring import In

from h2sim.io.progress import Say
from h2sim.rtl.backward_engine import BackwardEngine
from h2sim.rtl.lut_engine import LutEngine
from h2sim.rtl.parameters import BackwardParameters, LutParameters
from h2sim.rtl.primitives import Placement, ReadPort

Engine = LutEngine | BackwardEngine
MOST_PORT_BITS = 60_000  # of a top module; Amaranth has room for 65,536


def new_engine(parameters: LutParameters | BackwardParameters, placement: Placement | None = None) -> Engine:
    """The engine that the parameters describe: to simulate, or, with a placement of instances, to emit."""
    if isinstance(parameters, BackwardParameters):
        return BackwardEngine(parameters, placement)
    return LutEngine(parameters, placement)


class Buffered(Elaboratable):
    """An engine with its operand buffers as black boxes behind the read ports, for arrays that are too wide for ports.

    A box holds the banks of some neighbouring lanes, of at most box_bits. Its input is the port's address, its output
    the port's data.
    """

    def __init__(self, engine: Engine, box_bits: int = 4096) -> None:
        self.engine = engine
        self.box_bits = box_bits
        self.boxes: dict[str, tuple[int, int, int]] = {}  # module: bits of shared address, own addresses, data
        kept = {f"{port.name}_data" for port in engine.ports if isinstance(port, ReadPort)}
        self.ports: list[Signal] = []
        for name, member in engine.signature.members.items():
            if (name not in kept and not name.endswith(("_shared", "_own"))) or name == "results_shared":
                outer = Signal.like(getattr(engine, name), name=name)
                self.ports.append(outer)
                setattr(self, name, (outer, member.flow == In))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.engine = engine = self.engine
        for outer in self.ports:
            inner, incoming = getattr(engine, outer.name), getattr(self, outer.name)[1]
            m.d.comb += inner.eq(outer) if incoming else outer.eq(inner)
        for port in engine.ports:
            if isinstance(port, ReadPort):
                self._boxes(m, port)
        return m

    def _boxes(self, m: Module, port: ReadPort) -> None:
        shared, data = getattr(self.engine, f"{port.name}_shared"), getattr(self.engine, f"{port.name}_data")
        own = getattr(self.engine, f"{port.name}_own") if port.own else None
        lanes = min(port.lanes, max(1, self.box_bits // port.width))
        for low in range(0, port.lanes, lanes):
            n = min(lanes, port.lanes - low)
            module = f"{self.engine.module}_{port.name}_buffer_{n}"
            self.boxes[module] = (len(shared), n * port.own_bits, n * port.width)
            word = data[low * port.width : (low + n) * port.width]
            ports = {"i_clk": ClockSignal(), "i_shared": shared, "o_data": word}
            if own is not None:
                ports["i_own"] = own[low * port.own_bits : (low + n) * port.own_bits]
            m.submodules[f"{port.name}_{low}"] = Instance(module, **ports)

    def stubs(self) -> str:
        """The Verilog of the black boxes. A read is synchronous: the address in one cycle, the data in the next."""
        found = ["// operand buffers: to be replaced by SRAM macros; address in one cycle, data in the next\n"]
        for module, (shared, own, data) in sorted(self.boxes.items()):
            ports = f"input clk, input [{shared - 1}:0] shared, output [{data - 1}:0] data"
            ports += f", input [{own - 1}:0] own" if own else ""
            found.append(f"(* blackbox *)\nmodule {module}({ports});\nendmodule\n")
        return "\n".join(found)

    def served(self) -> str:
        """The Verilog of the boxes as a test bench serves them: it reads the address and writes the next data word."""
        return "\n".join(
            f"module {module}(input clk, input [{shared - 1}:0] shared /*verilator public_flat_rd*/, "
            + (f"input [{own - 1}:0] own /*verilator public_flat_rd*/, " if own else "")
            + f"output reg [{data - 1}:0] data);\n  reg [{data - 1}:0] served /*verilator public_flat_rw*/;\n"
            "  always @(posedge clk) data <= served;\nendmodule\n"
            for module, (shared, own, data) in sorted(self.boxes.items())
        )


def verilog_modules(
    parameters: LutParameters | BackwardParameters, progress: Say = lambda module: None
) -> dict[str, str]:
    """The Verilog text of an engine by module name; the top module has the engine's name.

    The same parameters give the same text. An engine that is too wide for ports comes with its operand buffers as black
    boxes (NAME_buffers). progress(module) is called before each module.
    """
    placement = Placement(as_instances=True)
    engine = new_engine(parameters, placement)
    progress(engine.module)
    return _top(engine) | {name: text for name, (_, text) in _units(placement, progress).items()}


def verilog_units(parameters: LutParameters | BackwardParameters) -> dict[str, tuple[int, str]]:
    """The units of an engine by module name: how many the engine has, and the Verilog text."""
    placement = Placement(as_instances=True)
    Fragment.get(new_engine(parameters, placement), None)  # elaborates it, so that its units are known
    return _units(placement, lambda module: None)


def _units(placement: Placement, progress: Say) -> dict[str, tuple[int, str]]:
    found = {}
    for name, unit in placement.modules.items():
        progress(name)
        count = placement.instances[name]
        found[name] = count, verilog.convert(unit, name=name, emit_src=False)
        if name in placement.within:  # its units are known now
            within = _units(placement.within[name], progress)
            found |= {inner: (count * each, text) for inner, (each, text) in within.items()}
    return dict(sorted(found.items()))


def is_wide(engine: Engine) -> bool:
    """Whether an engine has more port bits than a top module can have."""
    ports = [name for name, member in engine.signature.members.items() if member.flow == In]
    return sum(len(getattr(engine, name)) for name in ports) > MOST_PORT_BITS


def served_modules(parameters: LutParameters | BackwardParameters) -> str:
    """The Verilog of a wide engine for a test bench (Buffered.served). Verilator compiles each unit only once."""
    placement = Placement(as_instances=True)
    buffered = Buffered(new_engine(parameters, placement), MOST_PORT_BITS)
    name = buffered.engine.module
    text = verilog.convert(buffered, name=name, ports=buffered.ports, emit_src=False)
    units = [
        re.sub(rf"^(module {unit}\b[^;]*;)", r"\1 /*verilator hier_block*/", text, count=1, flags=re.MULTILINE)
        if unit in placement.modules
        else text
        for unit, (_, text) in _units(placement, lambda module: None).items()
    ]
    return "\n".join([text, buffered.served(), *units])


def _top(engine: Engine) -> dict[str, str]:
    if not is_wide(engine):
        return {engine.module: verilog.convert(engine, name=engine.module, emit_src=False)}
    buffered = Buffered(engine)
    text = verilog.convert(buffered, name=engine.module, ports=buffered.ports, emit_src=False)
    return {engine.module: text, f"{engine.module}_buffers": buffered.stubs()}

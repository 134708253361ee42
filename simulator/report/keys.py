"""Meaning and unit of every key of the result and of the CSV columns; `h2sim explain` prints them."""

from __future__ import annotations

_STEP = {
    "schema": "name of this document's format",
    "version": "version of the format; later ones add keys",
    "h2sim": "version of the simulator that wrote it",
    "arch": "the machine: name, and hash of its parameters as simulated",
    "workload": "the trace: network, data set, source (training, inference or synthetic), hash of the file",
    "energy_table": "the prices: name and hash",
    "options": "Backward Engine mode; whether transfers took no time",
    "name": "name of the machine or table",
    "sha256": "hash of the machine's parameters, the table's content or the trace's bytes",
    "network": "the network that the trace was made with",
    "dataset": "the data it was trained on",
    "source": "training, inference or synthetic",
    "mode": "Backward Engine mode: dense, input_only, output_only or dual",
    "ideal_memory": "true: transfers took no time",
    "step": "one sub-batch on the whole machine",
    "first_cycles": "cycles of the first sub-batch, forward then backward and weight update, nothing beside it",
    "steady_cycles": "cycles per sub-batch with the pipeline full: forward of the next beside backward of this one",
    "samples": "samples of a sub-batch (in step.batch: of a whole batch)",
    "clock_hz": "clock frequency, Hz",
    "seconds": "steady-state time of one sub-batch, s (in step.batch: of a whole batch)",
    "samples_per_second": "samples / seconds",
    "energy_j": "on-chip energy of one steady sub-batch, J (per engine: by component)",
    "offchip_energy_j": "external-memory energy of one sub-batch, J; never part of energy_j",
    "average_power_w": "energy_j / seconds, W",
    "batch": "a batch group: sub-batches, then the weight update",
    "sub_batches": "sub-batches of a batch group",
    "cycles": "cycles of a batch group: first + (sub_batches - 1) x steady + update",
    "update_cycles": "cycles of the weight update that ends a batch group: reading w and dw, writing w",
}

_ROWS = {
    "engines": "sums over each engine's rows: forward, weight_update, backward",
    "forward": "Forward Engine (and Soma)",
    "weight_update": "Weight Update Engine",
    "backward": "Backward Engine (and Grad)",
    "layers": "one row per layer and phase",
    "layer": "name of the layer in the trace",
    "phase": "forward, backward (the gradient to the layer's inputs) or weight_update",
    "engine": "the engine that ran it; an encoding layer runs on the Backward Engine",
    "start_cycle": "cycle of the steady period in which the engine turns to the row",
    "end_cycle": "start_cycle + compute_cycles + fill_cycles + all stalls",
    "busy_cycles": "cycles the engine spent on its rows: compute + fill + stalls",
    "compute_cycles": "cycles the PE array needs with data always at hand",
    "fill_cycles": "pipeline depth and what Soma or Grad still sweeps after the array's last cycle, once per row",
    "stall_cycles": "cycles the PE array waited, by cause",
    "memory_read": "stall: operands not there yet, cycles",
    "memory_write": "stall: the output buffer is full, cycles",
    "dependency": "stall: another engine's (or layer's) results not there yet, cycles",
    "utilization": "compute_cycles / steady_cycles",
    "occupancy": "lane slots that did useful work / slots offered in compute_cycles",
    "operations": "events, by kind",
    "lut_read": "16-bit words read from sub-LUTs",
    "lut_write": "16-bit words written into sub-LUTs",
    "fp16_add": "FP16 additions, PE array and Acc",
    "fp16_multiply": "FP16 multiplications",
    "register_access": "16-bit register reads and writes",
    "priority_encode": "Conv IDs and empty tags that priority encoders emitted",
    "soma_element": "neuron updates in Soma",
    "grad_element": "neuron updates in Grad",
    "bytes": "bytes moved",
    "offchip_read": "bytes read from external memory",
    "offchip_write": "bytes written to external memory",
    "glb_read": "bytes read from global buffers",
    "glb_write": "bytes written to global buffers",
    "energy_pj": "on-chip energy of the row by kind of event, pJ",
    "lut": "energy of LUT reads and writes",
    "register": "energy of register accesses",
    "soma": "Soma: its energy, or as component its energy or area",
    "grad": "Grad: its energy, or as component its energy or area",
    "glb": "global buffers: energy or area",
    "leakage": "leakage power x time",
    "pe_array": "the PE array: energy or area",
    "acc": "accumulator trees and partial-sum adders: energy or area",
    "offchip_energy_pj": "external-memory energy of the row, pJ",
    "memories": "each row's use of each external memory in the steady period",
    "memory": "Mem 0: the sub-batch in its forward pass; Mem 1: the one in its backward pass; Mem 2: weight gradients",
    "area_um2": "area by engine and component, um2",
    "total": "area of the machine, um2",
}

_ENERGY_GROUPS = ("lut", "fp16_add", "fp16_multiply", "register", "priority_encode", "soma", "grad", "glb", "leakage")

_COLUMNS = {
    **{f"stall_{cause}_cycles": _ROWS[cause] for cause in ("memory_read", "memory_write", "dependency")},
    **{
        f"{event}_operations": _ROWS[event]
        for event in (
            "lut_read", "lut_write", "fp16_add", "fp16_multiply", "register_access", "priority_encode",
            "soma_element", "grad_element",
        )
    },
    **{f"{moved}_bytes": _ROWS[moved] for moved in ("offchip_read", "offchip_write", "glb_read", "glb_write")},
    **{f"energy_{group}_pj": f"energy of {group.replace('_', ' ')}, pJ" for group in _ENERGY_GROUPS},
}  # fmt: skip

KEYS: dict[str, str] = {**_STEP, **_ROWS, **_COLUMNS}

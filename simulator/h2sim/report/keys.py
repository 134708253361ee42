"""Meaning and unit of every key of results, CSV files and the terminal's tables; `h2sim explain` prints them."""

from __future__ import annotations

from h2sim.io.provenance import LIBRARIES
from h2sim.report.columns import COLUMNS

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
    "node_nm": "technology of the energy table, nm",
    "network": "the network that the trace was made with",
    "dataset": "the data it was trained on",
    "source": "training, inference or synthetic",
    "mode": "Backward Engine mode: dense, input_only, output_only or dual",
    "ideal_memory": "true: transfers took no time",
    "step": "one sub-batch on the whole machine",
    "first_cycles": "cycles of the first sub-batch, forward then backward and weight update, nothing beside it",
    "steady_cycles": "cycles per sub-batch with the pipeline full: forward of the next beside backward of this one",
    "samples": "samples of a sub-batch (in step.batch and chips: of a whole batch group)",
    "clock_hz": "clock frequency, Hz",
    "seconds": "steady-state time of one sub-batch, s (in step.batch: of a whole batch)",
    "samples_per_second": "samples / seconds",
    "energy_j": "on-chip energy of one steady sub-batch, J (per engine: by component; in chips: of a batch group)",
    "offchip_energy_j": "external-memory energy of one sub-batch (in chips: a batch group), J; never part of energy_j",
    "average_power_w": "energy_j / seconds, W",
    "batch": "a batch group: sub-batches, then the weight update",
    "sub_batches": "sub-batches of a batch group",
    "cycles": "cycles of a batch group: first + (sub_batches - 1) x steady + update (in chips: and all-reduce)",
    "update_cycles": "cycles of the weight update that ends a batch group: reading w and dw, writing w",
}

_ORIGIN = {
    "provenance": "what wrote the document: command, versions, commit",
    "command": "the command line, without the names of its outputs",
    "versions": "versions of h2sim, Python and the libraries that it counts with",
    "git_commit": "commit of the checkout that h2sim ran from; +changes: its files differed",
    "machine": "kind of the machine: h2learn, or a rival's",
    "parameters": "the whole arch file as simulated, defaults and overrides included",
    "warnings": "where a number would mislead whoever does not know this",
    "bill": "the on-chip energy, line by line: count x unit_pj = energy_pj; all lines add up to step.energy_j",
    "component": "part of an engine: PE array, Acc, Soma or Grad, buffers (glb), leakage",
    "action": "the event that a line of the bill counts; of leakage: cycles (with power_gating buffer by what leaks)",
    "count": "how many events, bytes or cycles",
    "unit_pj": "price of one event, byte or cycle, pJ",
    "buffers": "bytes that each global buffer gave and took",
    "read_bytes": "bytes read from a buffer, by its engine and by memory",
    "write_bytes": "bytes written to a buffer, by its engine and by memory",
    "offchip_pj_per_byte": "price of a byte from or to external memory, pJ",
    "arch_sha256": "hash of the machine (CSV)",
    "trace_sha256": "hash of the trace file (CSV)",
    "energy_table_sha256": "hash of the energy table (CSV)",
}

_RIVALS = {
    "bounds": "what bounds the step: the critical path by resource and cause; its cycles add up to steady_cycles",
    "resource": "an engine, or an external memory (Mem 0, 1, 2)",
    "cause": "compute or fill (engines), read or write (memories); ties go to the engine",
    "critical_cycles": "cycles of the critical path in the row's computes and transfers; all rows add up to the step",
    "ideal_memory_cycles": "steady_cycles with memories whose transfers take no time",
    "what_if": "with --what-if: the step with one field of the machine changed",
    "setting": "the change: a dotted path of the arch file and its value",
    "fused": "true: the row runs beside others, so that its seconds are no share of the step (rivals)",
    "published": "what is reported of a rival: power_w, area_mm2, energy_j",
    "left_out": "layers that a rival cannot run, with the reason; no figure holds them",
    "notes": "what is assumed or taken for granted, a line each",
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

_CHIPS = {
    "chips": "with --chips: a batch group on 1, 2, ... chips; energies and bytes are of all of them together",
    "interconnect": "the ring's links, as the arch file has them",
    "link_bytes_per_s": "bytes per second of one link in one direction",
    "hop_cycles": "cycles from the last byte of a step of the ring to the first of the next",
    "energy_pj_per_bit": "energy of a bit over one link, pJ",
    "gradient_bytes": "bytes of all weight gradients, that every chip's are added to",
    "least_efficiency": "the efficiency from which on chips count as worth their place",
    "strong": "one chip's batch group shared among all chips",
    "weak": "a batch group of its own for each chip",
    "fastest_chips": "chips with the highest throughput; of several such numbers the smallest",
    "last_worth_chips": "the most chips that fewer do not outrun and whose efficiency is at least least_efficiency",
    "points": "one entry per number of chips",
    "n_chips": "number of chips",
    "working_chips": "chips that have a sub-batch, and take part in the ring",
    "sub_batches_per_chip": "sub-batches of the chip that has most",
    "all_reduce_cycles": "cycles in which the weight gradients go round the ring",
    "idle_chip_cycles": "cycles of all chips together without sub-batch, all-reduce or update",
    "link_bytes": "bytes over all links",
    "speedup": "samples per second / those of one chip",
    "efficiency": "speedup / n_chips",
    "link_energy_j": "energy of the links, J; part of neither energy_j nor offchip_energy_j",
}

_SPINALFLOW = {
    "array": "SpinalFlow's only engine: sorter and PEs; `h2sim explain pes` and the like for its sizes",
    "pes": "SpinalFlow: the PEs, as component their energy or area",
    "sorter": "SpinalFlow: the sorter of input spikes, as component its energy or area",
    "filter_buffer": "SpinalFlow: the buffer of weights, as component its energy or area",
    "input_buffer": "SpinalFlow: the buffer of input spikes, as component its energy or area",
    "output_buffer": "SpinalFlow: the buffer of output spikes, as component its energy or area",
    "sorted_spikes": "SpinalFlow, event: spikes that left the sorter, one a cycle",
    "comparisons": "SpinalFlow, event: comparisons of two time stamps in the sorter",
    "filter_rows": "SpinalFlow, event: rows of weights read from the filter buffer",
    "updates": "SpinalFlow, event: potentials that took a weight: add, compare, read and write",
    "output_spikes": "SpinalFlow, event: spikes that left the PEs",
    "potentials_moved": "SpinalFlow, event: potentials or partial sums that left or entered the PEs otherwise",
}

_LOIHI = {
    "cores": "Loihi's only engine: all cores that hold neurons of the network",
    "synaptic_operations": "Loihi, event: synapses that added their weight, sparse and dense together",
    "neurons_active": "Loihi, event: updates of neurons that took input in the step",
    "neurons_inactive": "Loihi, event: updates of neurons that took no input in the step",
    "spikes": "Loihi, event: neurons that fired",
    "messages_sent": "Loihi, event: spike messages that cores sent",
    "messages_received": "Loihi, event: spike messages that cores took",
    "hops_east_west": "Loihi, event: ways of a message to the next tile east or west",
    "hops_north_south": "Loihi, event: ways of a message to the next tile north or south",
    "events": "Loihi: energy of all events of a layer, pJ",
    "dies": "Loihi: area of all dies that the network takes",
}

_SATA = {
    "lif": "SATA, event: updates of neurons, each at each timestep",
    "pgu": "SATA, event: gradients of neurons, each at each timestep; in the update where a layer reads the input",
    "mac_fwd": "SATA, event: (input spike, tap, output channel) that meet; of an analog input every value",
    "mac_bwd": "SATA, event: (gradient bit, tap, input channel) that meet; beside the bill",
    "mac_bwd_dual": "SATA, event: those of mac_bwd whose input neuron has its window bit; priced",
    "mac_wup": "SATA, event: (input spike, tap, output channel) that meet in the weight update",
    "mac_wup_both": "SATA, event: those of mac_wup that meet a gradient bit; beside the bill",
    "encode_multiply": "SATA, event: multiplications of analog values",
    "scratchpad_word": "SATA, event: weights or gradients that a PE reads for a sum",
    "gate": "SATA, event: passes of AND gates, multiplexers and shifters; unpriced",
    "w_buffer": "SATA: buffer of weights and their gradients (energy or area)",
    "s_buffer": "SATA: buffer of input spikes and masks",
    "u_buffer": "SATA: buffer of membrane potentials and gradients",
    "z_buffer": "SATA: buffer of output spikes",
}

_DENSE_ARRAY = {
    "multiply_accumulate": "dense array, event: products of all operands, zeros too",
    "units": "dense array: multiply-accumulate units (energy or area)",
    "weights_buffer": "dense array: buffer of weights (energy or area)",
    "spikes_buffer": "dense array: buffer of input spikes and masks",
    "values_buffer": "dense array: buffer of gradients and membrane potentials",
    "weight_gradients_buffer": "dense array: buffer of weight gradients",
}

_PROSPERITY = {
    "lane_add": "Prosperity, event: weights that lanes add",
    "weight_row": "Prosperity, event: rows of weights that are read, one for all lanes",
    "spike": "Prosperity, event: spikes of im2col, which bit sparsity would all add",
    "prefix_sum": "Prosperity, event: sums of subsets that lanes take over",
    "tcam_search": "Prosperity, event: rows whose largest subset is searched",
    "tcam_cell": "Prosperity, event: cells that searches compare; unpriced",
    "popcount": "Prosperity, event: rows whose spikes are counted before a search; unpriced",
    "outputs_buffer": "Prosperity: buffer of partial sums (energy or area)",
}

_PTB = {
    "accumulate": "PTB, event: weights that PEs add to sums, one for each spike and output channel",
    "slot": "PTB, event: lines left after packing, of all batches of a group of output channels",
    "window_bit": "PTB, event: (input, time window, output position) in which there is a spike",
    "idle_pe_slot": "PTB, event: cycles of all columns in the slots of one group of output channels, less window bits",
    "weight_read": "event: weights that are read (SATO), or lines of weights, two for a slot of two lines (PTB)",
    **{
        f"cycles_{placement}_{padding}": f"PTB: compute cycles with {placement} pairs and T padded to {said}"
        for placement in ("strided", "contiguous")
        for padding, said in (("window", "whole windows"), ("power_of_two", "a power of two"))
    },
}

_SATO = {
    "add": "event: weights of spikes that are added to sums, one for each output channel (SATO, LoAS)",
    "comparison": "SATO, event: comparisons in the search tree, some levels for each neuron; unpriced",
    "cycles_fc_rows": "SATO: compute cycles of a fully connected layer whose rows are a PE's each, for every output",
    "cycles_fc_spread": "SATO: compute cycles of a fully connected layer whose outputs' rows are dealt out together",
}

_LOAS = {
    "match": "LoAS, event: inputs of a row that fire in a pass and have a weight, over all output channels",
    "chunk": "LoAS, event: chunks of masks that the inner join went through; unpriced",
    "input_neuron": "LoAS: neurons of all samples that a layer reads",
    "silent_neuron": "LoAS: those that never fire",
    "packed_word": "LoAS: words of spikes of a neuron in a pass",
    "live_word": "LoAS: those with a spike",
    "weight": "LoAS: weights of a layer",
    "kept_weight": "LoAS: those that are not zero, or all where the trace holds none",
    "tppes": "LoAS: temporal-parallel PEs (energy or area)",
}

_SIZES = {
    "basis": "rivals: what the figures stand on, where they are not as good as others'",
    "unpriced": "rivals: events that no source prices, with their number and why; they are in no energy",
    "lanes": "rivals: synapses that the array works on in a cycle; null where it is not said",
    "weight_bits": "rivals: bits of a weight",
    "bandwidth_bytes_per_s": "bytes per second of an external memory",
    "number": "rivals: how many events without a price",
    "why": "rivals: what is known of events without a price",
}

_PUBLISHED = {
    "power_w": "power as published, W (rivals)",
    "area_mm2": "area as published, mm2 (rivals)",
}

_VERSIONS = {name: f"version of {name} that the result was made with" for name in ("python", *LIBRARIES)}

_TABLE_FILES = {
    "extends": "energy table file: the table that it takes over, but for the fields that it gives itself",
    "part": "energy table file: a file of energy_tables/parts whose SRAM macros it takes",
    "scale": "energy table file, calibrated: factors on all energies and leakages, and on all areas",
    "leakage_mw": "energy table, column of sram.macros: leakage power of a macro, mW",
    "cycle_ns": "energy table, column of sram.macros: shortest time between two accesses of a macro, ns",
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

KEYS: dict[str, str] = {
    **_TABLE_FILES, **_SPINALFLOW, **_LOIHI, **_SATA, **_DENSE_ARRAY, **_PROSPERITY, **_PTB, **_SATO, **_LOAS, **_SIZES,
    **_PUBLISHED, **_VERSIONS,
    **COLUMNS, **_STEP, **_ORIGIN, **_RIVALS, **_ROWS, **_CHIPS, **_COLUMNS,
}  # fmt: skip

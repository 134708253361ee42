"""The three engines as synthesisable RTL (Amaranth), and the co-simulation that holds the simulator equal to it.

Reading order: parameters (what is built), primitives (pipelines, loop nests, ports); the units lut_pe, lut_column,
output_finder, group_pe, pe_group, backward_column, neuron_unit; the engines lut_engine (Forward and Weight Update
Engine; lut_store: where its sums go) and backward_engine; design (Verilog), area (Yosys). Then the proof: bench and
harness.cpp (the two test benches), images, lut_cases and backward_cases (what the buffers hold), fixed (Soma and Grad
in integers), layers (random layers and what the simulator says of them), corners (which of them are hard), check,
mutations, campaign.
The data path is integer. An adder or multiplier of latency n is one operation followed by n - 1 registers: it has the
timing of an FP16 unit of that depth.
"""

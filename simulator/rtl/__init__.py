"""The three engines as synthesisable RTL (Amaranth), and the co-simulation that holds the simulator equal to it.

Reading order: parameters (what is built), primitives (pipelines, loop nests, ports), the units lut_pe, group_pe,
output_finder, neuron_unit, then the engines lut_engine (Forward and Weight Update Engine) and backward_engine;
design (their ports, Verilog), bench and harness.cpp (the two test benches), cases and check (what is compared).
The data path is integer: an adder or multiplier of latency n is one operation followed by n - 1 registers,
which is what the FP16 unit of that depth does to timing.
"""

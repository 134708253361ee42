"""Training algorithms beside plain BPTT, each a recipe of `h2sim train`, and what belongs to them.

ann: the network without spikes that conversion begins with. convert: its thresholds as those of spiking neurons. diet:
hybrid training with trained thresholds and leaks. hire: the same on inputs with crafted noise.
"""

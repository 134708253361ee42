"""Optional trainer (`pip install h2sim[train]`): BPTT of spiking networks in torch, and the traces it exports.

Reading order: lif (the neuron, eq. 2.1-2.6), network (a torch module from a trace's layer list), data,
bptt (the training loop), export (one sub-batch as a trace), presets and make_traces (the committed traces).
"""

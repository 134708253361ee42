"""Optional trainer (`pip install h2sim[train]`): BPTT of spiking networks in torch, and the traces of its steps.

Reading order: lif (the neuron, eq. 2.1-2.6), maps and norm (what stands between layers), check, network (a torch
module made of a trace's layer list), objective, batches, record, bptt (one training step, whole or recorded), settings,
trainer (a run in memory), folder, run_json, checkpoint and writer (a run on disk), session (settings of the process).
presets and make_traces make the committed traces.
"""

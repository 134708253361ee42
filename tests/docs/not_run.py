"""Lines that no test runs, with the reason; click reads their options all the same (test_lines.py)."""

GPU = "needs a GPU of NVIDIA's; tests/gpu/test_record.py measures steps on the processor"
OWN_FILES = "reads a data set from the user's own files; tests/datasets reads files of its formats"
CLUSTER = "needs a running cluster; tests/sweeps/test_cluster.py starts one"
RTL = "minutes of hardware simulation or synthesis; tests/rtl runs small ones"
NOT_RUN = {
    "h2sim reproduce -o reports/h2learn": "takes half an hour; tests/accuracy/test_reproduce.py runs it",
    "h2sim gpu record cifar10 --batch 64 -o mine.json": GPU,
    "h2sim gpu record cifar10 --implementation vanilla,compiled,graph,chapter4,spikingjelly-triton -o mine.json": GPU,
    "h2sim gpu record mnist --implementation layerwise --repeats 100 --area 815 --node 12 -o mine.csv": GPU,
    "h2sim train mnist-small mnist --data ~/mnist --epochs 2 --trace-epochs 0,1,last -o run": OWN_FILES,
    "h2sim train 32C3-AP2-10FC fashion-mnist --epochs 1 --loss mse --readout rate --trace-values -o run": OWN_FILES,
    "h2sim sweep space.yaml -o space --dask tcp://node1:8786": CLUSTER,
    "h2sim sweep space.yaml -o space --dask tcp://SCHEDULER:8786": CLUSTER,
    "h2sim completion fish | source": "the syntax of fish, and lines are run by bash",
    "h2sim rtl emit h2learn -o verilog": RTL,
    "h2sim rtl emit mine.yaml -o verilog --engine backward --operand-bits 8": RTL,
    "h2sim rtl check": RTL,
    "h2sim rtl check --machines 6 --cases 100": RTL,
    "h2sim rtl check --wide 3": RTL,
    "h2sim rtl check --planes 4 --engine forward --cases 60": RTL,
    "h2sim rtl check --planes 4 --engine forward --engine weight_update": RTL,
    "h2sim rtl check --machines 45 --cases 400 --wide 3 --mutations --record rtl-record.md": RTL,
    "h2sim rtl check --simulator amaranth --machines 3 --cases 4": RTL,
    "h2sim rtl area h2learn": RTL,
    "h2sim rtl area h2learn --engine backward --liberty cells.lib": RTL,
}

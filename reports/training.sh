#!/bin/sh
# The runs behind reports/training.md, about 3 hours on two cores; needs MNIST (H2SIM_DATA) and Fashion-MNIST, extra h2sim[train].
# Run it in an empty folder; a run that was stopped goes on with the same command and --resume.
set -eu
traces="--trace-epochs 0,1,last --trace-batches 8 --test-samples 2000"

# networks of the source
h2sim train mnist mnist --epochs 2 --train-samples 6000 --batch 8 --learning-rate 3e-5 --initial-deviation 0.3 \
    --test-samples 1000 --trace-epochs 0,1,last --trace-batches 8 -o mnist-table34
h2sim train mnist-small mnist --epochs 2 --shift 2 $traces -o small-ce
h2sim train mnist-small fashion-mnist --epochs 2 $traces -o small-fashion
h2sim train robust-fc mnist --epochs 8 --shift 1 $traces -o fc-mnist
h2sim train robust-fc fashion-mnist --epochs 8 $traces -o fc-fashion
h2sim train robust-conv mnist --epochs 3 --shift 1 $traces -o conv-mnist
h2sim train robust-conv fashion-mnist --epochs 3 $traces -o conv-fashion

# the same weights and samples, other gradients: the learning rate keeps the weights where they are
frozen="h2sim train mnist-small mnist --start-from small-ce --epochs 1 --trace-batches 8 --test-samples 2000
    --train-samples 4096 --learning-rate 1e-9 --seed 5"
$frozen -o frozen-float32
$frozen --reduction sum -o frozen-sum
$frozen --gradient-dtype float16 -o frozen-float16
$frozen --gradient-dtype float16-flush -o frozen-flush
$frozen --gradient-dtype float16 --loss-scale 1024 -o frozen-float16-1024
$frozen --gradient-dtype float16-flush --loss-scale 1024 -o frozen-flush-1024

big="h2sim train mnist mnist --start-from mnist-table34 --epochs 1 --train-samples 512 --batch 8 --learning-rate 1e-9 --seed 5
    --trace-batches 8"
$big --gradient-dtype float32 -o big-float32
$big --gradient-dtype float16 -o big-float16

# the same start, 500 iterations under each loss and readout
tuned="h2sim train mnist-small mnist --start-from small-ce --epochs 1 --trace-batches 8 --test-samples 2000
    --train-samples 16000 --learning-rate 5e-4 --shift 2 --seed 5"
$tuned --loss ce --readout current -o tuned-ce-current
$tuned --loss ce --readout rate -o tuned-ce-rate
$tuned --loss mse --readout current -o tuned-mse-current
$tuned --loss mse --readout rate -o tuned-mse-rate

h2sim trace compare frozen-float32/traces/epoch-001 frozen-sum/traces/epoch-001 frozen-float16/traces/epoch-001 \
    frozen-flush/traces/epoch-001 frozen-float16-1024/traces/epoch-001 frozen-flush-1024/traces/epoch-001 \
    tuned-ce-current/traces/epoch-001 tuned-ce-rate/traces/epoch-001 tuned-mse-current/traces/epoch-001 \
    tuned-mse-rate/traces/epoch-001 --markdown choices.md
h2sim trace compare big-float32/traces/epoch-001 big-float16/traces/epoch-001 --markdown choices-table34.md
h2sim trace compare small-ce/traces/epoch-000 small-ce/traces/epoch-001 small-ce/traces/epoch-002 --markdown epochs.md
h2sim trace compare mnist-table34/traces/epoch-002 --twins both --markdown twins-mnist.md
h2sim trace compare small-ce/traces/epoch-002 conv-mnist/traces/epoch-003 conv-fashion/traces/epoch-003 \
    small-fashion/traces/epoch-002 tuned-mse-rate/traces/epoch-001 --twins both --markdown twins-others.md

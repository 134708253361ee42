"""Labelled data to train on, from files that the user has: images, event recordings, and events made from images.

Reading order: base (what a data set is), registry (which there are), search (where their files lie), load (the way in),
then a file per family: idx, digits, cifar with unpickle, imagenet; events with nmnist, recordings, dvs128_gesture;
aedat with aedat_header, aedat3, aedat4 and frames; saccade.
"""

from h2sim.datasets.base import Dataset, Description, Split
from h2sim.datasets.load import describe, find, load_dataset, names, searched

__all__ = ["Dataset", "Description", "Split", "describe", "find", "load_dataset", "names", "searched"]

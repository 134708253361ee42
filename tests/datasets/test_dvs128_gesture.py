"""DVS128 Gesture: rows of tables become samples, and whatever is wrong in the user's files is one line."""

from __future__ import annotations

import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2sim.datasets import aedat3 as reader
from h2sim.datasets import load_dataset
from h2sim.errors import DatasetError
from tests.datasets import aedat3

OVERFLOW = aedat3.OVERFLOW_US
LED = [(t, t // 100 % 128, 5, t % 200 == 0) for t in range(1000, 9000, 100)]
LATE = [(OVERFLOW - 150 + t, 127, t // 100, True) for t in range(0, 400, 100)]  # the clock overflows amid a gesture
TRAIN = {
    "user01_led": (LED, [(1, 2000, 4000), (11, 4000, 4350)]),
    "user02_lab": (LATE, [(3, OVERFLOW - 150, OVERFLOW + 100), (4, OVERFLOW + 100, OVERFLOW + 200)]),
}
TEST = {"user24_led": (LED[:40], [(2, 900, 5000), (2, 1000, 1001)])}
WHERE = "user01_led_labels.csv"


@pytest.fixture
def folder(tmp_path):
    return aedat3.write_gestures(tmp_path / "DvsGesture", TRAIN, TEST)


def cells(split, number):
    """(step, ON, y, x) of what one sample holds."""
    return np.argwhere(split.samples(np.array([number]))[0]).tolist()


def everything(folder, **options):
    data = load_dataset("dvs128-gesture", folder=folder, **{"size": (128, 128), "timesteps": 2, **options})
    for split in (data.train, data.test):
        split.samples(np.arange(len(split)))
    return data


def one_line(error) -> str:
    assert "\n" not in str(error)
    assert len(str(error)) < 1000
    return str(error)


def test_a_row_of_a_table_is_a_sample_of_its_time(folder):
    data = load_dataset("dvs128-gesture", folder=folder.parent, size=(128, 128), timesteps=2)
    assert (data.name, data.kind, data.shape, data.classes) == (
        "dvs128-gesture (1 ms bins)",
        "events",
        (2, 128, 128),
        11,
    )
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0, 10, 2, 3], [1, 1])
    assert (data.train.rows.tolist(), data.test.rows.tolist()) == ([0, 1, 2, 3], [4, 5])
    shown = [[t // 1000 - 2, int(on), y, x] for t, x, y, on in LED if 2000 <= t < 4000]
    assert cells(data.train, 0) == sorted(shown)
    # the second ends after 350 us, though its two bins are of 2 ms
    assert cells(data.train, 1) == sorted([0, int(on), y, x] for t, x, y, on in LED if 4000 <= t < 4350)
    assert cells(data.test, 0) == sorted([(t - 900) // 1000, int(on), y, x] for t, x, y, on in LED if t < 2900)


def test_times_go_on_where_the_clock_overflows(folder):
    data = load_dataset("dvs128-gesture", folder=folder, size=(128, 128), timesteps=4, time_bin_ms=0.1)
    assert cells(data.train, 2) == [[step, 1, step, 127] for step in range(3)]  # the fourth is behind its end


def test_without_options_it_is_what_the_source_s_network_reads(folder):
    data = load_dataset("dvs128-gesture", folder=folder, timesteps=60)
    assert data.train.samples(np.array([0])).shape == (1, 60, 2, 32, 32)


def test_a_gesture_that_begins_in_silence_has_empty_frames(tmp_path):
    quiet = {"user01_led": (LED, [(1, 100, 9000)])}
    data = load_dataset("dvs128-gesture", folder=aedat3.write_gestures(tmp_path, quiet, TEST), time_bin_ms=0.01)
    assert cells(data.train, 0) == []


SPIKINGJELLY = """
import sys, types
from pathlib import Path

class Anything(types.ModuleType):  # its data sets import what a parser does not need, and may not fit this torch
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})

names = ("torchvision", "torchvision.datasets", "torchvision.datasets.utils", "torchaudio", "torchaudio.transforms")
sys.modules.update((name, Anything(name)) for name in names)
from spikingjelly.datasets.dvs128_gesture import DVS128Gesture
DVS128Gesture.create_raw_from_extracted(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_spikingjelly_cuts_the_same_events_from_the_same_files(folder, tmp_path):
    pytest.importorskip("spikingjelly")
    (tmp_path / "raw").mkdir()
    command = [sys.executable, "-c", SPIKINGJELLY, str(tmp_path), str(tmp_path / "raw")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    data = load_dataset("dvs128-gesture", folder=folder)
    theirs, ours = [], []
    for part, split in (("train", data.train), ("test", data.test)):
        for path in (tmp_path / "raw" / part).glob("*/*.npz"):
            with np.load(path) as found:
                label, columns = int(path.parent.name), [found[name].tolist() for name in "txyp"]
            theirs.append((part, label, path.stem.rpartition("_")[0], list(zip(*columns, strict=True))))
        for gesture, label in zip(split.read.gestures, split.labels.tolist(), strict=True):
            events = split.read.packets(gesture.recording).between(gesture.start_us, gesture.stop_us)
            columns = [getattr(events, name).tolist() for name in ("t_us", "x", "y", "on")]
            ours.append((part, label, Path(gesture.recording).stem, list(zip(*columns, strict=True))))
    assert len(theirs) == 6
    assert sorted(ours) == sorted(theirs)


@pytest.mark.parametrize("run_events", [1, 7, 1 << 13])
@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_part_of_a_recording_is_what_all_of_it_has_in_that_time(tmp_path_factory, run_events, data):
    event = st.tuples(st.integers(0, 60), st.integers(0, 127), st.integers(0, 127), st.booleans())
    events = data.draw(st.lists(event, min_size=1, max_size=30))  # in any order
    start, stop = data.draw(st.integers(0, 61)), data.draw(st.integers(0, 61))
    other = aedat3.packet([(0, 0, 0, False)] * 2, kind=0) + aedat3.packet([])
    path = tmp_path_factory.mktemp("r") / "r.aedat"
    path.write_bytes(aedat3.HEADER + other + aedat3.packets(events, data.draw(st.integers(1, 9))) + other)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "RUN_EVENTS", run_events)
        header = reader.Header("3.1", len(aedat3.HEADER), frozenset())
        found = reader.index_packets(str(path), header, (128, 128)).between(start, stop)
    wanted = [event for event in events if start <= event[0] < stop]
    columns = [] if found is None else [getattr(found, name).tolist() for name in ("t_us", "x", "y", "on")]
    assert list(zip(*columns, strict=True)) == wanted


def test_a_sample_takes_the_memory_of_its_part_of_a_recording(tmp_path):
    folder = aedat3.write_gestures(tmp_path, {"user01_led": (LED, [(1, 2000, 4000)])}, TEST)
    events = np.zeros((1 << 20, 2), "<u4")  # 8 MiB
    events[:, 0], events[:, 1] = 1, np.arange(len(events))
    blocks = [aedat3.packet([], spare=0)[:16] + np.array([256] * 3, "<i4").tobytes() + block.tobytes()
              for block in np.split(events, len(events) // 256)]  # fmt: skip
    (folder / "user01_led.aedat").write_bytes(aedat3.HEADER + b"".join(blocks))
    data = load_dataset("dvs128-gesture", folder=folder, timesteps=2)
    tracemalloc.start()
    sample = data.train.samples(np.array([0]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sample.sum() == 2
    assert peak < 2 << 20


def test_recordings_are_not_read_before_their_samples_are_asked_for(folder):
    (folder / "user02_lab.aedat").write_bytes(b"damaged")
    data = load_dataset("dvs128-gesture", folder=folder)
    data.train.samples(np.array([0, 1]))
    with pytest.raises(DatasetError, match=r"user02_lab\.aedat: AEDAT version: expected 3\.1; got none$"):
        data.train.samples(np.array([2]))


BAD_TABLES = [
    ("", "line 1: expected class,startTime_usec,endTime_usec; got ''"),
    ("class,start,end\n1,2000,4000\n", "line 1: expected class,startTime_usec,endTime_usec; got 'class,start,end'"),
    (aedat3.table([]), "gestures: expected at least one; got none"),
    (aedat3.table([(0, 2000, 4000)]), r"line 2: class: expected 1\.\.11; got 0"),
    (aedat3.table([(1, 2000, 4000), (12, 2000, 4000)]), r"line 3: class: expected 1\.\.11; got 12"),
    (aedat3.table([(1, 4000, 4000)]), "line 2: endTime_usec: expected more than 4000, its start; got 4000"),
    (aedat3.table([(1, 9000, 9999)]),
     r"line 2: expected a time with events, of which .*1_led\.aedat has those of 1000 to 8900 us; got 9000 to 9999 us"),
    (aedat3.table([(1, 0, 1000)]), r"line 2: expected a time with events, .*; got 0 to 1000 us"),
    (aedat3.table([(1, 1001, 1100)]), r"line 2: expected a time with events, .*; got 1001 to 1100 us"),
    *((f"{aedat3.table([])}{row}\n", "line 2: expected three integers, a class and two times in us; got .*")
      for row in ("1,2000", "1,2000,4000,1", "1,-2,4000", "1.0,2000,4000", "1,2e3,4000", "one,2000,4000", ",,", "1;2;3",
                  f"1,2000,{10**30}", "1,2000,\u0664", "x" * 10**5)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "why"), BAD_TABLES)
def test_a_wrong_table_of_labels_is_one_line(folder, text, why):
    (folder / WHERE).write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=rf"{WHERE}: {why}$") as caught:
        everything(folder)
    one_line(caught.value)


def test_tables_and_lists_as_other_programs_save_them_are_read(folder):
    rows = "\ufeffclass, startTime_usec, endTime_usec\r\n 1 , 2000 , 4000 \r\n11,4000,4350\r\n\r\n"
    (folder / WHERE).write_text(rows, encoding="utf-8")
    (folder / "trials_to_train.txt").write_text("user01_led.aedat\r\n\r\nuser02_lab.aedat  ")
    assert everything(folder).train.labels.tolist() == [0, 10, 2, 3]


def test_a_table_or_a_recording_that_is_missing_is_one_line(folder):
    (folder / WHERE).unlink()
    with pytest.raises(DatasetError, match=rf"{WHERE}: file: expected a readable one; got No such file"):
        everything(folder)
    (folder / WHERE).write_bytes(b"\xff\xfe")
    with pytest.raises(DatasetError, match=rf"{WHERE}: content: expected text in UTF-8; got other bytes$"):
        everything(folder)
    (folder / "user24_led.aedat").unlink()
    (folder / WHERE).write_text(aedat3.table([(1, 2000, 4000)]))
    with pytest.raises(
        DatasetError, match=r"user24_led\.aedat: file: expected one, as trials_to_test\.txt says; got no"
    ):
        everything(folder)


@pytest.mark.parametrize(
    ("listed", "why"),
    [
        ("\n \n", "recordings: expected at least one; got none"),
        ("user01_led\n", r"line 1: recording: expected a file's name with \.aedat; got 'user01_led'"),
        ("../user01_led.aedat", r"line 1: recording: expected a file's name with \.aedat; got '../user01_led.aedat'"),
        ("a\\user01_led.aedat", r"line 1: recording: expected a file's name .*"),
        ("a\x1b.aedat", r"line 1: recording: expected a file's name .*"),
        ("user01_led.aedat\n" * 2,
         r"line 2: recording: expected one that no line before names, as trials_to_test.txt, line 1 does; got user.*"),
    ],
)  # fmt: skip
def test_a_wrong_list_of_trials_is_one_line(folder, listed, why):
    (folder / "trials_to_train.txt").write_text("user02_lab.aedat")
    (folder / "trials_to_test.txt").write_text(listed)
    with pytest.raises(DatasetError, match=rf"trials_to_test\.txt: {why}$") as caught:
        everything(folder)
    one_line(caught.value)


def test_a_recording_to_train_on_is_none_to_test_on(folder):
    (folder / "trials_to_test.txt").write_text("user24_led.aedat\nuser01_led.aedat\n")
    why = r"test\.txt: line 2: recording: expected one that no line before names, as trials_to_train\.txt, line 1 does"
    with pytest.raises(DatasetError, match=why):
        everything(folder)


def test_another_version_of_aedat_is_one_line(folder):
    content = (folder / "user01_led.aedat").read_bytes()
    (folder / "user01_led.aedat").write_bytes(content.replace(b"DAT3.1", b"DAT2.0"))
    with pytest.raises(DatasetError, match=r"user01_led\.aedat: AEDAT version: expected 3\.1; got 2\.0$"):
        everything(folder)


def test_every_cut_of_a_recording_is_one_line(tmp_path):
    events = LED[:7]
    folder = aedat3.write_gestures(tmp_path, {"user01_led": (events, [(1, 1000, 1100), (2, 1600, 1700)])}, TEST)
    path = folder / "user01_led.aedat"
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(DatasetError) as caught:
            everything(folder)
        assert re.search(
            r"user01_led(\.aedat|_labels\.csv): .*: expected .*; got .*|line 3: expected a time", one_line(caught.value)
        )


@pytest.mark.parametrize("name", [WHERE, "trials_to_train.txt", "trials_to_test.txt"])
def test_every_cut_of_a_table_or_a_list_is_one_line_or_a_shorter_one(folder, name):
    content = (folder / name).read_bytes()
    for length in range(len(content)):
        (folder / name).write_bytes(content[:length])
        try:
            assert len(everything(folder).train) <= 4
        except DatasetError as error:
            assert ": expected " in one_line(error)  # noqa: PT017


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_bytes_changed_anywhere_are_read_or_refused_in_one_line(tmp_path_factory, data):
    folder = aedat3.write_gestures(tmp_path_factory.mktemp("g"), TRAIN, TEST)
    path = folder / data.draw(st.sampled_from(sorted(path.name for path in folder.iterdir())))
    changed = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(changed))
    try:
        assert everything(folder).classes == 11
    except DatasetError as error:
        assert ": expected " in one_line(error)  # noqa: PT017


def test_a_recording_that_changes_after_it_was_indexed_is_one_line(folder):
    data = load_dataset("dvs128-gesture", folder=folder)
    data.train.samples(np.array([0]))
    path = folder / "user01_led.aedat"
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        try:
            data.train.samples(np.array([0]))
        except DatasetError as error:
            assert ": expected " in one_line(error)  # noqa: PT017


def test_the_command_trains_on_it(folder, tmp_path):
    pytest.importorskip("torch")
    from click.testing import CliRunner

    from h2sim.cli import main
    from h2sim.trace import load_trace

    how = ["--epochs", "1", "--batch", "2", "--size", "8,8", "--timesteps", "3", "--trace-samples", "2"]
    command = ["train", "4C3S2-AP2-11FC", "dvs128-gesture", "--data", str(folder), *how, "-o", str(tmp_path / "run")]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    trace = load_trace(tmp_path / "run" / "traces" / "epoch-001" / "batch-00.npz")
    trace.check()
    assert trace.meta.dataset == "dvs128-gesture (1 ms bins), 8x8"
    (folder / WHERE).unlink()
    done = CliRunner().invoke(main, [*command[:-1], str(tmp_path / "other")])
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert f"{WHERE}: file: expected a readable one" in done.stderr
    assert not (tmp_path / "other").exists()


def test_the_data_set_is_found_where_its_archive_unpacks(folder, monkeypatch):
    monkeypatch.setenv("H2SIM_DATA", str(folder.parent))
    assert len(load_dataset("dvs128-gesture").train) == 4

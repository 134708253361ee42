"""YAML that was read before is not parsed again, and nothing but the file's text decides what is read."""

from __future__ import annotations

import os

import pytest
import yaml

from h2sim.arch import load_arch
from h2sim.energy import EnergyTable, load_energy_table
from h2sim.energy import load as tables
from h2sim.errors import EnergyTableError, H2SimError
from h2sim.io import library, yamlfile

SHIPPED = sorted(path for folder in ("archconfigs", "energy_tables", "workloads") for path in
                 (library.data_root() / folder).rglob("*.yaml"))  # fmt: skip


@pytest.fixture
def parses(monkeypatch):
    """Texts that were parsed, from a fresh start."""
    found, load = [], yaml.load
    monkeypatch.setattr(yamlfile.yaml, "load", lambda text, loader: found.append(text) or load(text, loader))
    yamlfile._in_bytes.cache_clear()
    return found


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_remembered_text_says_what_the_parser_says(path):
    text = path.read_text()
    for _ in range(2):
        assert repr(yamlfile._loaded(text)) == repr(yaml.load(text, yamlfile._Loader))


def test_a_table_is_parsed_once_with_its_part(parses):
    first = load_energy_table("28nm")
    assert len(parses) == 2
    assert load_energy_table("28nm") == first
    assert len(parses) == 2


def test_what_is_read_is_the_readers_own(tmp_path):
    (tmp_path / "mine.yaml").write_text("a: {b: [1, 2]}\n")
    yamlfile.read_file(tmp_path / "mine.yaml", H2SimError)["a"]["b"].append(3)
    assert yamlfile.read_file(tmp_path / "mine.yaml", H2SimError) == {"a": {"b": [1, 2]}}


@pytest.mark.parametrize("edited", ["table", "base", "part"])
def test_an_edited_file_is_read_anew_even_with_its_old_size_and_time(tmp_path, edited):
    part = (tables.parts_folder() / "sram-28nm-itrs-hp-300k.yaml").read_text()
    base = library.find("energy table", "28nm").read_text().replace("part: sram-28nm-itrs-hp-300k", "part: part.yaml")
    texts = {
        "part": part,
        "base": base,
        "table": "extends: base.yaml\nname: mine\nvoltage_v: 0.9\n",
    }
    files = {name: tmp_path / f"{name}.yaml" for name in texts}
    for name, text in texts.items():
        files[name].write_text(text)
    before = load_energy_table(files["table"])
    old = {"table": "0.9", "base": "energy_pj: 0.208", "part": "node_nm: 28"}[edited]
    new = {"table": "0.8", "base": "energy_pj: 0.209", "part": "node_nm: 45"}[edited]
    assert old in texts[edited]
    stat = files[edited].stat()
    files[edited].write_text(texts[edited].replace(old, new))
    os.utime(files[edited], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    if edited == "part":
        with pytest.raises(EnergyTableError, match="macros of 28 nm"):
            load_energy_table(files["table"])
        return
    after = load_energy_table(files["table"])
    assert after != before
    files[edited].write_text(texts[edited])
    assert load_energy_table(files["table"]) == before


def test_a_fault_is_found_every_time_and_true_is_not_one(tmp_path):
    text = library.find("energy table", "28nm").read_text()
    (tmp_path / "a.yaml").write_text(text.replace("node_nm: 28\n", "node_nm: 1\n"))
    (tmp_path / "b.yaml").write_text(text.replace("node_nm: 28\n", "node_nm: true\n"))
    for _ in range(2):
        with pytest.raises(EnergyTableError, match="expected macros of 1 nm"):
            load_energy_table(tmp_path / "a.yaml")
        with pytest.raises(EnergyTableError):
            load_energy_table(tmp_path / "b.yaml")


def test_data_that_no_file_can_hold_are_checked_as_they_are():
    class Text(str):
        pass

    data = load_energy_table("28nm").model_dump()
    assert tables.parse_energy_table({**data, "name": Text("mine")}, "here").name == "mine"
    with pytest.raises(EnergyTableError, match="name"):
        tables.parse_energy_table({**data, "name": object()}, "here")
    assert isinstance(tables.parse_energy_table(data, "here"), EnergyTable)


def test_little_is_remembered(tmp_path):
    for number in range(yamlfile.MOST_TEXTS + 5):
        yamlfile._loaded(f"a: {number}")
    assert yamlfile._in_bytes.cache_info().currsize == yamlfile.MOST_TEXTS
    load_arch("h2learn")
    before = yamlfile._in_bytes.cache_info()
    yamlfile._loaded("# " + "x" * yamlfile.MOST_TEXT + "\na: 1")
    assert yamlfile._in_bytes.cache_info() == before

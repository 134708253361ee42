"""The report on chapter 4's figures: its page is the record's, and a point measured anew agrees."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from h2sim.gpu.clock import CpuClock  # noqa: E402
from h2sim.gpu.energy import measure_energy  # noqa: E402
from tests.helpers.gpu_fakes import FakeMeter  # noqa: E402

HOME = Path(__file__).parents[2] / "reports" / "gpu"
NAMES = ("measure", "step", "networks", "published", "pictures", "figures")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module")
def report():
    """The report's modules by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HOME))
        yield {name: __import__(name) for name in NAMES}
        for name in NAMES:
            del sys.modules[name]


@pytest.fixture(scope="module")
def record(report):
    return report["measure"].read(HOME / "record.json")


@pytest.fixture
def view(report, record):
    return report["published"].View(record, "cpu")


def point(report, **changes):
    of = {"device": "cpu", "network": "small", "batch_norm": True, "timesteps": 8, "batch": 2, "way": "vanilla"}
    return report["step"].Point(**{**of, **changes})


def test_the_committed_page_is_what_the_record_renders_to(report, record):
    assert (HOME / "figures.md").read_text() == report["figures"].page(record)


def test_the_record_is_written_as_it_is_read(report, record, tmp_path):
    report["measure"].write(tmp_path / "again.json", record)
    assert (tmp_path / "again.json").read_bytes() == (HOME / "record.json").read_bytes()


def test_every_way_computes_the_same_loss(report, record):
    losses = {key: float(value["loss"]) for key, value in record.items() if key.way != "conv"}
    assert len(losses) >= 120
    other = {key for key in losses if losses[key] != pytest.approx(losses[replace(key, way="vanilla")], rel=1e-4)}
    # the one spike of the page, which both forms of the unit flip
    assert {(key.network, key.batch_norm, key.timesteps, key.way) for key in other} == {
        ("medium", True, 32, way) for way in ("fused", "fused-sliced")
    }


def test_all_that_the_cpu_can_give_is_in_the_record(report, record):
    assert set(report["measure"].wanted("cpu")) == set(record)


def test_the_sources_trends_hold(report, view):
    share, sizes = report["published"].share, report["measure"].CIFAR10
    for norm, best in ((False, 0.41), (True, 0.33)):
        found = [share(view, network, norm, 32) for network in sizes]
        assert found == sorted(found, reverse=True)
        assert found[-1] <= best
    assert share(view, "medium", True, 10, batch=64) < share(view, "medium", False, 10, batch=64) < 0.41
    assert report["published"].conv_only(view, "peak_bytes", False).startswith("1.8")  # printed: 1.69 to 1.82
    assert report["published"].conv_only(view, "peak_bytes", True).startswith("2.1")  # printed: 2.05 to 2.23
    vanilla, ours = (report["published"].parts(view, way) for way in ("vanilla", "fused-sliced"))
    assert ours["feature maps"] < 0.3 * vanilla["feature maps"]


@linux
def test_a_point_measured_anew_agrees_in_kind(report):
    measure = report["measure"].in_a_process
    vanilla, fused = (measure(point(report, way=way)) for way in ("vanilla", "fused-sliced"))
    assert float(vanilla["loss"]) == pytest.approx(float(fused["loss"]), rel=1e-4)
    assert fused["peak_bytes"] < 0.9 * vanilla["peak_bytes"]  # 0.82 at T 4 and 0.67 at T 10, batch 4
    assert fused["kept_bytes"] < 0.4 * vanilla["kept_bytes"]  # 4 bytes a neuron and timestep of 16 - 4 / T
    assert fused["parameter_bytes"] == vanilla["parameter_bytes"]


def test_what_is_not_measured_is_said_with_its_command(report, record):
    measured = {key: value for key, value in record.items() if key.batch == 4}
    lines = report["figures"].page(measured).splitlines()
    rows = [line for line in lines if line.startswith("| 4.")]
    assert len(rows) == 15
    assert all(
        "not measured" in line and ("| `python reports/gpu/measure.py" in line or "`h2sim gpu" in line) for line in rows
    )
    assert "--device cuda --figure 4.9 --processes 4`" in rows[-1]
    assert any("4.7a" in line and "| not measured | not measured |" in line for line in rows)


def test_points_of_a_gpu_stand_beside(report, record):
    gpu = {}
    for key in report["measure"].wanted("cuda"):
        slow = 2.0 if key.way in ("vanilla", "torchscript") else 1.0
        gpu[key] = {"gpu": "Fake GPU", "seconds": slow, "peak_bytes": int(slow * 10**9), "parameter_bytes": 10**7,
                    "kept_bytes": 10**8, "loss": "1.0"}  # fmt: skip
    for key in list(gpu):
        if key.network in ("alexnet", "resnet34"):
            gpu[replace(key, processes=4)] = gpu[key]
    page = report["figures"].page({**record, **gpu})
    rows = [line for line in page.splitlines() if line.startswith("| 4.")]
    found = [row.split(" | ")[4] for row in rows if "time by kernel" not in row and "4.7a" not in row]
    alone = ["2.00x; 2.00x (all)"] * 4
    assert found == [
        *alone,
        "0.50x",
        "2.00x",
        "0.50x",
        "2.00x",
        "2.00x, 2.00x, 2.00x",
        "0.50x",
        "0.50x",
        "2.00x",
        "2.00x",
    ]
    assert "On Fake GPU; in brackets" in page
    assert "| medium | yes | 10 | 64 |  | 2000 | 1000 (0.50, 2.00x) |" in page


@pytest.mark.parametrize("forward", [False, True])
def test_a_gpus_point_has_time_peak_and_energy(report, monkeypatch, forward):
    """As much of CUDA as is asked for, on the processor."""
    step, seen = report["step"], types.SimpleNamespace(name="Fake GPU", uuid="1")
    for name, value in {"get_device_properties": lambda _: seen, "reset_peak_memory_stats": lambda _: None,
                        "max_memory_allocated": lambda _: 12345}.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)
    meter = FakeMeter(watts=100.0, counts=False)
    for name, value in {"_device": lambda _: torch.device("cpu"), "CudaClock": lambda _: CpuClock(), "WARM_UP": 1,
                        "REPEATS": 1, "ENERGY_S": 1e-9, "NvmlMeter": lambda _: meter,
                        "idle_power_w": lambda _: 50.0,
                        "measure_energy": lambda *of: measure_energy(*of, meter.looked_at())}.items():  # fmt: skip
        monkeypatch.setattr(step, name, value)
    asked = point(report, device="cuda", timesteps=1, batch=1, batch_norm=False, way="fused", forward=forward)
    found = step.on_cuda(asked)
    assert (found["gpu"], found["peak_bytes"]) == ("Fake GPU", 12345)
    assert found["seconds"] > 0
    assert found["joules"] > 0
    assert ("kept_bytes" in found) is not forward


def test_points_that_are_there_are_not_measured_again(report, tmp_path, monkeypatch):
    measure, measured = report["measure"], []

    def count(key):
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append(key)
        return {"peak_bytes": 10**6, "loss": "1.0"}

    monkeypatch.setattr(measure, "in_a_process", count)
    path, points = tmp_path / "record.json", [point(report, timesteps=t) for t in range(5)]
    with pytest.raises(KeyboardInterrupt):
        measure.fill(path, points)
    first = list(measured)
    measured.clear()
    measure.fill(path, points)
    assert (len(first), len(measured)) == (3, 2)
    assert not set(first) & set(measured)
    assert len(json.loads(path.read_text())["points"]) == 5


def test_pictures_are_drawn_in_a_chosen_format(report, view, tmp_path):
    from h2sim.document.pictures import Plots

    paths = report["pictures"].draw(view, tmp_path, Plots(("svg",)))
    assert [path.name for path in paths] == [f"figure-{number}.svg" for number in ("4.2", "4.6", "4.7")]
    assert all(path.stat().st_size > 3000 for path in paths)


def test_the_scripted_timestep_fires_as_the_plain_one(report):
    networks, x = report["networks"], torch.randn(5, 2, 3, 4, 4)
    assert torch.equal(networks.scripted(x), networks.vanilla(x))


def test_a_residual_network_is_the_same_in_units(report):
    made = {}
    for way in ("vanilla", "fused"):
        torch.manual_seed(0)
        block = report["networks"].Block(4, 6, 2, True, way, False)
        x = torch.randn(3, 2, 4, 6, 6, generator=torch.Generator().manual_seed(1))
        out = block(x)
        out.square().sum().backward()
        made[way] = [out.detach(), *(p.grad for p in block.parameters())]
    for ours, theirs in zip(made["fused"], made["vanilla"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)

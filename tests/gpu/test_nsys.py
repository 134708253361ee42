"""Exports of Nsight Systems, built in its schema: mapping, and what is refused."""

from __future__ import annotations

import sqlite3

import pytest

from h2sim.errors import GpuTraceError
from h2sim.gpu.importing import import_profile
from h2sim.gpu.rules import Rule
from tests.helpers.gpu_made import MADE, NsysExport, by_label


def nsys_step(path):
    """conv1 and conv2 forward in ranges; backward by emit_nvtx's sequence numbers on another thread."""
    export = NsysExport(path)
    export.nvtx("conv1", 0, 100, stored=True)
    export.nvtx("aten::conv2d, seq = 4, sizes = [[1]]", 10, 90)
    export.kernel("implicit_gemm", 20, 1000, 7)
    export.nvtx("h2sim:conv2", 200, 300)
    export.nvtx("aten::conv2d, seq = 5, sizes = [[1]]", 210, 290)
    export.kernel("implicit_gemm", 220, 1100, 11)
    export.nvtx("ConvolutionBackward0, seq = 5, op_id = 9", 400, 500, tid=2)
    export.nvtx("aten::mm, op_id = 10", 405, 406, tid=2)
    export.kernel("sm80_dgrad", 410, 1200, 13, tid=2)
    export.kernel("sm80_wgrad", 420, 1300, 17, tid=2)
    export.nvtx("h2sim:conv1:backward", 600, 700, kind=60)
    export.kernel("add", 610, 1400, 19)
    export.nvtx("a mark", 800, None, kind=34)
    export.nvtx("unended", 800, None)
    export.copy(900, 1500, 23)
    return export.close()


def test_an_nsys_export_maps_by_nvtx_ranges_and_sequence_numbers(tmp_path):
    trace = import_profile(nsys_step(tmp_path / "p.sqlite"), MADE)
    assert by_label(trace) == {
        ("conv1", "forward"): 7e-9,
        ("conv1", "backward"): 19e-9,
        ("conv2", "forward"): 11e-9,
        ("conv2", "backward"): 13e-9,
        ("conv2", "weight_update"): 17e-9,
        ("unmapped", "other"): 23e-9,
    }
    assert trace.device.name == "NVIDIA A100-SXM4-40GB"
    assert trace.step.seconds == pytest.approx((1523 - 20) * 1e-9)


def test_correlation_ids_are_those_of_their_process(tmp_path):
    export = NsysExport(tmp_path / "p.sqlite")
    export.nvtx("conv1", 0, 100)
    export.kernel("mine", 10, 1000, 5)
    export.correlation = 0
    other = 0x01_0000_2B << 24
    export.kernel("other's", 20, 1100, 3, pid=other)
    trace = import_profile(export.close(), MADE)
    assert by_label(trace) == {("conv1", "forward"): 5e-9, ("unmapped", "other"): 3e-9}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DROP TABLE CUPTI_ACTIVITY_KIND_KERNEL", "tables: expected a table CUPTI_ACTIVITY_KIND_KERNEL"),
        ("DROP TABLE StringIds", "tables: expected a table StringIds"),
        (
            "ALTER TABLE CUPTI_ACTIVITY_KIND_RUNTIME RENAME COLUMN globalTid TO tid",
            "RUNTIME: expected a column globalTid",
        ),
        ("UPDATE CUPTI_ACTIVITY_KIND_RUNTIME SET globalTid = 'x'", "globalTid: expected an integer; got 'x'"),
        ("UPDATE CUPTI_ACTIVITY_KIND_KERNEL SET end = 'y'", "KERNEL.end: expected an integer; got 'y'"),
        ("UPDATE CUPTI_ACTIVITY_KIND_KERNEL SET end = 0", "KERNEL.end: expected at least 1000, the start; got 0"),
    ],
)
def test_an_export_that_lacks_something_is_refused(tmp_path, change, said):
    path = nsys_step(tmp_path / "p.sqlite")
    database = sqlite3.connect(path)
    database.executescript(change)
    database.close()
    with pytest.raises(GpuTraceError, match=said):
        import_profile(path, MADE)


def test_an_export_without_ranges_or_a_gpus_name_can_be_mapped_by_rules(tmp_path):
    path = nsys_step(tmp_path / "p.sqlite")
    database = sqlite3.connect(path)
    database.executescript("DROP TABLE NVTX_EVENTS; DROP TABLE TARGET_INFO_GPU; DROP TABLE CUPTI_ACTIVITY_KIND_MEMCPY")
    database.close()
    trace = import_profile(path, MADE, (Rule(kernel="wgrad", layer="conv1", phase="weight_update"),))
    assert by_label(trace) == {("conv1", "weight_update"): 17e-9, ("unmapped", "other"): pytest.approx(50e-9)}
    assert trace.device.name == "unknown GPU"
    assert trace.phases == ("weight_update",)

"""What several tests of GPU traces stand in for a GPU."""

from __future__ import annotations

import sys
import types

import pytest

from tests.helpers.gpu_fakes import FakeEvent, FakeNvml


@pytest.fixture
def fake_cuda(monkeypatch):
    """As much of torch.cuda as h2sim asks for, where there is none."""
    torch = pytest.importorskip("torch")
    seen = types.SimpleNamespace(name="Fake V100", uuid="1-2", total_memory=1 << 34, major=7, minor=0)
    for name, value in {
        "is_available": lambda: True,
        "get_device_properties": lambda number: seen,
        "current_stream": lambda device: "stream",
        "synchronize": lambda device: None,
        "Event": FakeEvent,
        "reset_peak_memory_stats": lambda: None,
        "max_memory_allocated": lambda: 12_345,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch, "zeros", lambda *size, device: None)
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())

"""Does a simulation work in a forked process, in a spawned one, and in several threads at once?"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.helpers.traces import tiny_trace

SETUP = """
import multiprocessing, sys, threading
from concurrent.futures import ThreadPoolExecutor
import h2sim
ARCH, PATH = h2sim.load_arch("h2learn"), sys.argv[1]
def cycles(_=None):
    return h2sim.simulate(ARCH, h2sim.load_trace(PATH), mode="dual").activity.steady_cycles
def shared(trace):
    return h2sim.simulate(ARCH, trace).activity.steady_cycles
"""

FORK = """
ours = cycles()
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(cycles, range(4)) == [ours] * 4
print("ok")
"""

THREADS = """
ours, trace = cycles(), h2sim.load_trace(PATH)
with ThreadPoolExecutor(6) as pool:
    assert set(pool.map(cycles, range(24))) == {ours}
    assert set(pool.map(shared, [trace] * 24)) == {ours}
print("ok")
"""

THREADS_IN_A_FORK = """
ours = cycles()
def several(_):
    with ThreadPoolExecutor(3) as pool:
        return list(pool.map(cycles, range(6)))
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(several, range(2)) == [[ours] * 6] * 2
print("ok")
"""

FORK_IN_A_THREAD = """
ours = cycles()
def forked():
    with multiprocessing.get_context("fork").Pool(1) as pool:
        found.append(pool.map(cycles, range(2)))
found, busy = [], threading.Thread(target=lambda: [cycles() for _ in range(10)])
busy.start()
other = threading.Thread(target=forked)
other.start(); other.join(); busy.join()
assert found == [[ours] * 2]
print("ok")
"""

FORK_AMID_A_KEPT_VALUE = """
import os, signal
from h2sim.io.kept import cached_property
inside, go = threading.Event(), threading.Event()
class Slow:
    def __init__(self, waits):
        self.waits = waits
    @cached_property
    def value(self):
        if self.waits:
            inside.set()
            go.wait()
        return 7
busy = threading.Thread(target=lambda: Slow(True).value)
busy.start()
inside.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)  # functools' own property of Python 3.11 would wait for ever
    os._exit(0 if Slow(False).value == 7 else 1)
status = os.waitpid(child, 0)[1]
go.set()
busy.join()
assert status == 0, status
print("ok")
"""

TORCH_THEN_FORK = "import torch\n(torch.ones(300, 300) @ torch.ones(300, 300)).sum()\n" + FORK


def run(program, trace):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SETUP + program, str(trace)],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "ok\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize(
    "program",
    [FORK, THREADS_IN_A_FORK, FORK_IN_A_THREAD, FORK_AMID_A_KEPT_VALUE],
    ids=["fork", "threads in it", "thread", "kept value"],
)
def test_a_forked_process_simulates_as_its_parent_did(program, tmp_path):
    run(program, tiny_trace(tmp_path))


def test_several_threads_simulate_at_once(tmp_path):
    run(THREADS, tiny_trace(tmp_path))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_process_that_used_torch_forks_all_the_same(tmp_path):
    pytest.importorskip("torch")
    run(TORCH_THEN_FORK, tiny_trace(tmp_path))

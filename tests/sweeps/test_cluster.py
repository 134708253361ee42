"""Sweeps on a cluster of Dask's, of several processes on this machine."""

from __future__ import annotations

import json
import pickle
import threading
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("distributed")

from h2sim._version import __version__
from h2sim.errors import SweepError
from h2sim.sweeps import cluster as module
from h2sim.sweeps.cluster import ClusterWorkers, Refused, versions
from h2sim.sweeps.plan import make_plan
from h2sim.sweeps.run import designs_of, sweep
from h2sim.sweeps.session import Task
from h2sim.sweeps.spec import parse_spec
from tests.sweeps import watched
from tests.sweeps.clusters import Cluster
from tests.sweeps.running import points, spec, wait_until

pytestmark = pytest.mark.filterwarnings("ignore")  # Dask's own, about loops and sockets of processes that were killed
SPEC = spec(24)


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    """What a sweep finds on one local worker."""
    folder = tmp_path_factory.mktemp("alone") / "space"
    sweep(SPEC, folder, workers=1)
    return points(folder)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster of two workers that nobody kills."""
    found = Cluster(tmp_path_factory.mktemp("cluster"), 2, **{watched.NAP: "0.02"})
    yield found
    found.close()


def beside(work, *arguments):
    """Begins something in a thread; returns what waits for it, and for what it raised."""
    raised = []

    def run():
        try:
            work(*arguments)
        except SweepError as error:
            raised.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()

    def join():
        thread.join(timeout=120)
        assert not thread.is_alive()
        return raised

    return join


def on(address, folder, written=SPEC):
    sweep(written, folder, dask=address)


def batch_of(plan, count=2):
    designs = list(designs_of(plan))[:count]
    return tuple(Task(d.parameters, d.arch, d.table, d.ids, ((0, 0),)) for d in designs)


def place(pool):
    """A place, when a worker is there."""
    wait_until(lambda: pool.free() or pool.collect(0.1))
    return pool.free()[0]


def collected(pool):
    found = []
    wait_until(lambda: found.extend(pool.collect(0.1)) or found)
    return found


def test_a_cluster_finds_what_one_process_finds(cluster, left_alone, tmp_path):
    on(cluster.address, tmp_path / "space")
    assert points(tmp_path / "space") == left_alone


def test_a_trace_that_workers_cannot_read_is_sent_to_them(cluster, tmp_path, monkeypatch):
    plan = make_plan(parse_spec(spec(6)))
    (tmp_path / "here.npz").write_bytes(Path(plan.traces[0].path).read_bytes())
    monkeypatch.chdir(tmp_path)  # where workers are not
    setup = replace(plan.setup, traces=(replace(plan.traces[0], path="here.npz"),))
    pool = ClusterWorkers(setup, cluster.address)
    try:
        pool.submit(place(pool), batch_of(plan))
        assert [row.status for row in collected(pool)[0].found] == ["ok"] * 2
        (tmp_path / "here.npz").unlink()
        pool._needed.clear()
        with pytest.raises(SweepError, match=r"^here\.npz: cannot be read any more: No such file"):
            pool.submit(place(pool), batch_of(plan))
    finally:
        pool.close()


def test_a_worker_of_another_version_ends_the_sweep_with_a_line(cluster, monkeypatch):
    plan = make_plan(parse_spec(spec(6)))
    monkeypatch.setattr(module, "versions", lambda: ("0.0.1", 1, (3, 11)))
    pool = ClusterWorkers(plan.setup, cluster.address)
    try:
        pool.submit(place(pool), batch_of(plan))
        said = r"^tcp://127\.0\.0\.1:\d+: expected h2sim 0\.0\.1 \(model 1\) on Python 3\.11, as here; got h2sim "
        with pytest.raises(SweepError, match=said + __version__.replace(".", r"\.")):
            collected(pool)
    finally:
        pool.close()


def test_a_batch_that_fails_or_finds_no_package_ends_the_sweep_with_a_line(cluster):
    plan = make_plan(parse_spec(spec(6)))
    pool = ClusterWorkers(plan.setup, cluster.address)
    try:
        pool.submit(place(pool), (None,))
        with pytest.raises(SweepError, match=r"^tcp://127\.0\.0\.1:\d+: a batch failed: AttributeError: 'NoneType'"):
            collected(pool)
        missing = ModuleNotFoundError("No module named 'h2sim.sweeps'", name="h2sim.sweeps")
        sent = module._Sent((), place(pool), None)
        with pytest.raises(SweepError, match=r": expected h2sim .* as here; got no package h2sim$"):
            pool._erred(sent, missing)
    finally:
        pool.close()


def test_a_worker_keeps_few_sweeps_open(tmp_path, monkeypatch):
    plan = make_plan(parse_spec(spec(6)))
    monkeypatch.setattr(module, "_sessions", type(module._sessions)())
    for number in range(module.MOST_SESSIONS + 2):
        setup = replace(plan.setup, traces=(replace(plan.traces[0], name=f"trace {number}"),))
        module.run(versions(), pickle.dumps(setup), pickle.dumps(()), ())
    assert len(module._sessions) == module.MOST_SESSIONS
    lost = replace(plan.setup, traces=(replace(plan.traces[0], path=str(tmp_path / "none.npz")),))
    refused = pickle.loads(module.run(versions(), pickle.dumps(lost), pickle.dumps(()), ()))
    assert refused == Refused(missing=(0,))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nowhere"])
def test_an_address_where_no_scheduler_listens_is_a_line(address, monkeypatch):
    monkeypatch.setattr(module, "CONNECT_S", 0.5)
    plan = make_plan(parse_spec(spec(6)))
    with pytest.raises(SweepError, match=f"^{address}: expected a Dask scheduler that listens there; got "):
        ClusterWorkers(plan.setup, address)


def test_killed_workers_poison_and_a_killed_scheduler_cost_what_was_in_flight(left_alone, tmp_path):
    """One cluster, killed bit by bit: each start of one takes seconds."""
    poison = {"clock_hz": 420_000_000, "memory.bandwidth_bytes_per_s": 64_000_000_000}
    (tmp_path / "logs").mkdir()
    first = Cluster(tmp_path, 2, **{watched.NAP: "0.1", watched.FOLDER: str(tmp_path / "logs")})
    folder = tmp_path / "space"
    try:
        ended = beside(on, first.address, folder)
        wait_until(lambda: len(points(folder)) >= 3)
        first.workers[0].kill()
        first.workers.append(first.worker(**{watched.POISON: json.dumps(poison)}))
        wait_until(lambda: len(points(folder)) >= 8)
        first.scheduler.kill()
        (said,) = ended()
        assert said.startswith(f"{first.address}: the scheduler is gone")
        assert said.endswith("; what was finished is kept")
        kept = points(folder)
        assert kept.items() < left_alone.items()
    finally:
        first.close()
    (tmp_path / "second").mkdir()
    second = Cluster(tmp_path / "second", 1)
    try:
        on(second.address, folder)
        assert points(folder) == left_alone
    finally:
        second.close()


def test_a_point_that_kills_dask_workers_is_recorded(tmp_path):
    poison = {"clock_hz": 410_000_000, "memory.bandwidth_bytes_per_s": 64_000_000_000}
    found = Cluster(tmp_path, 0, **{watched.POISON: json.dumps(poison)})
    try:
        found.workers = [found.worker() for _ in range(3)]
        ended = beside(on, found.address, tmp_path / "space", spec(6))

        def replaced():
            for index, worker in enumerate(found.workers):
                if worker.poll() is not None:
                    found.workers[index] = found.worker()
            return len(points(tmp_path / "space")) == 6

        wait_until(replaced)
        assert ended() == []
        assert sorted(status for status, _ in points(tmp_path / "space").values()) == ["killed"] + ["ok"] * 5
    finally:
        found.close()

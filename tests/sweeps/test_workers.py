"""Local workers one by one, and the coordinator with workers of its test: who is given what, who is blamed for what."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections import Counter

import pytest

from h2sim.errors import SweepError
from h2sim.sweeps import coordinate, workers
from h2sim.sweeps.coordinate import Coordinator
from h2sim.sweeps.machines import point_id
from h2sim.sweeps.plan import make_plan
from h2sim.sweeps.run import designs_of
from h2sim.sweeps.session import OK, Found, Task
from h2sim.sweeps.spec import parse_spec
from h2sim.sweeps.store import Store
from h2sim.sweeps.worker import receive, send
from h2sim.sweeps.workers import Done, LocalWorkers
from tests.sweeps.running import lives, spec, wait_until


def plan(designs=40):
    return make_plan(parse_spec(spec(designs)))


def tasks(plan):
    return [Task(d.parameters, d.arch, d.table, d.ids, ((0, 0),)) for d in designs_of(plan)]


@pytest.fixture
def local():
    """Opens local workers, and closes them in the end."""
    opened = []

    def open_(setup, count):
        opened.append(LocalWorkers(setup, count))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


def next_of(pool):
    """The next batches that ended."""
    found: list[Done] = []
    wait_until(lambda: found.extend(pool.collect(0.1)) or found)
    return found


def test_a_frame_that_ends_too_early_is_an_end():
    stream = io.BytesIO()
    send(stream, {"a": 1})
    whole = stream.getvalue()
    assert receive(io.BytesIO(whole)) == {"a": 1}
    for count in range(len(whole)):
        with pytest.raises(EOFError):
            receive(io.BytesIO(whole[:count]))


def test_workers_that_are_killed_while_idle_or_all_at_once_are_replaced(local):
    made = plan(6)
    pool = local(made.setup, 2)
    for pid in pool.pids:  # both, before they have begun
        os.kill(pid, signal.SIGKILL)
    batches = [(task,) for task in tasks(made)[:3]]
    left = dict(zip(pool.free(), batches[:2], strict=True))
    for place, batch in left.items():
        pool.submit(place, batch)
    found = []
    while left:
        for done in next_of(pool):
            place = next(place for place, batch in left.items() if batch is done.batch)
            if done.found is None:
                assert not done.begun
                pool.submit(place, done.batch)
            else:
                found += [row.status for row in done.found]
                del left[place]
    assert found == ["ok", "ok"]
    idle = pool.pids
    os.kill(idle[0], signal.SIGKILL)
    wait_until(lambda: not pool.collect(0.1) and idle[0] not in pool.pids)
    pool.close()
    assert not any(map(lives, pool.pids))


def test_an_answer_that_is_cut_short_is_a_death_and_what_waited_is_put_back(local, monkeypatch):
    program = (
        "import os, sys; from h2sim.sweeps.worker import receive, send; out = os.fdopen(1, 'wb');"
        "receive(sys.stdin.buffer); send(out, None); receive(sys.stdin.buffer);"
        "out.write(bytes([9, 0, 0, 0, 0, 0, 0, 0, 1, 2])); out.flush(); os._exit(0)"
    )
    monkeypatch.setattr(workers, "WORKER", [sys.executable, "-c", program])
    made = plan(6)
    pool = local(made.setup, 1)
    first, second = ((task,) for task in tasks(made)[:2])
    pool.submit(0, first)
    pool.submit(0, second)
    assert next_of(pool) == [Done(first, None), Done(second, None, begun=False)]


def test_workers_that_never_begin_end_the_sweep(local, monkeypatch):
    monkeypatch.setattr(workers, "WORKER", [sys.executable, "-S", "-c", "raise SystemExit(3)"])
    pool = local(plan(6).setup, 2)
    with pytest.raises(SweepError, match=r"^workers: expected processes that begin; got 8 .* the last with status 3$"):
        wait_until(lambda: pool.collect(0.1))


class Fake:
    """Workers that find nothing out, at once; `deadly` tasks kill, and take what waits there with them.

    most: batches that a place takes.
    """

    def __init__(self, made, places, deadly=(), most=2):
        self._trace = made.traces[0].sha256
        self._at = {place: [] for place in range(places)}
        self._deadly, self._most = set(deadly), most
        self.batches: list[tuple[int, list[str]]] = []

    def free(self):
        return [place for place, batches in self._at.items() if len(batches) < self._most]

    def submit(self, place, batch):
        self._at[place].append(batch)
        self.batches.append((place, [task.ids[0] for task in batch]))

    def collect(self, timeout_s):
        done = []
        for batches in self._at.values():
            if batches and any(task.ids[0] in self._deadly for task in batches[0]):
                done += [Done(batch, None) for batch in batches]  # a scheduler that does not know which had begun
                batches.clear()
            elif batches:
                batch = batches.pop(0)
                rows = [Found(point_id(t.ids[0], self._trace), t.ids[0], self._trace, OK) for t in batch]
                done.append(Done(batch, rows))
        return done

    def close(self):
        pass


def run(made, pool, folder):
    with Store(folder, write=True) as store:
        coordinator = Coordinator(made, store, pool, lambda tally, found: None)
        coordinator.run(designs_of(made))
        return coordinator, {point.design: point.status for point in store.points()}


@pytest.mark.parametrize("places", [1, 3])
def test_only_what_kills_its_worker_is_recorded_as_killed(places, tmp_path):
    made = plan(200)
    deadly = {task.ids[0] for task in tasks(made)[37:200:60]}
    pool = Fake(made, places, deadly)
    _, found = run(made, pool, tmp_path)
    assert len(found) == 200
    assert {design for design, status in found.items() if status == "killed"} == deadly
    alone = Counter(ids[0] for _, ids in pool.batches if len(ids) == 1 and ids[0] in deadly)
    assert set(alone.values()) == {coordinate.ATTEMPTS_ALONE}


def test_few_tasks_are_shared_out_and_quick_ones_go_in_large_batches(tmp_path):
    few, many = plan(12), plan(600)
    pool = Fake(few, 4)
    run(few, pool, tmp_path / "few")
    assert {place for place, _ in pool.batches} == {0, 1, 2, 3}
    pool = Fake(many, 2)
    run(many, pool, tmp_path / "many")
    sizes = sorted((len(ids) for _, ids in pool.batches), reverse=True)
    assert sum(sizes) == 600
    assert sizes[len(sizes) // 2] >= 25


def test_workers_that_die_over_whatever_they_are_given_end_the_sweep(tmp_path):
    made = plan(200)
    pool = Fake(made, 2, {task.ids[0] for task in tasks(made)})
    with pytest.raises(SweepError, match=r"^workers: expected some that live through a point; got 30 that died over"):
        run(made, pool, tmp_path)

"""Runs the designs of a plan that are not in the store yet, on whatever workers there are, and keeps what they find."""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from h2sim.errors import SweepError
from h2sim.sweeps.machines import Design, point_id
from h2sim.sweeps.plan import Plan
from h2sim.sweeps.session import FAILED, INVALID, KILLED, OK, Found, Session, Task
from h2sim.sweeps.space import DEAREST
from h2sim.sweeps.store import Store, Stored
from h2sim.sweeps.workers import Batch, Done, Workers

MOST_AHEAD = 4000  # tasks that are made before there is a place for them
LOOK_UP = 250  # designs whose points are looked for in the store at once
BATCH_SECONDS = 1.0  # that a batch is to take
MOST_IN_BATCH = 100
ATTEMPTS_ALONE = 2  # of a task over which its worker died, before it is recorded as killed
MOST_DEATHS = 30  # of workers before the first batch comes back
PATIENCE_S = 0.5  # between two looks at the workers, so that a signal is heard


@dataclass
class Tally:
    """What a run has done so far. There: points that were in the store already."""

    begun: float = field(default_factory=time.monotonic)
    there: int = 0
    done: int = 0
    by_status: dict[str, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Points a second, of this run."""
        return self.done / max(time.monotonic() - self.begun, 1e-9)


Watch = Callable[[Tally, list[Found]], None]  # called after everything that was written


@dataclass
class _Pending:
    """A task that waits. number: of its design, in the order of the spec. key: what its dearest counts hang on;
    attempts: how often a worker died over it alone."""

    task: Task
    number: int
    key: str
    attempts: int = 0


@dataclass
class _Running:
    """A batch at work. It is kept here as long as it runs, so that its identity is its own."""

    batch: Batch
    pending: list[_Pending]
    place: int
    began: float


class Coordinator:
    """Runs designs and writes what is found. retry: points that failed or were killed before are run again."""

    def __init__(self, plan: Plan, store: Store, workers: Workers, watch: Watch, *, retry: bool = False) -> None:
        self._plan, self._store, self._workers, self._watch, self._retry = plan, store, workers, watch, retry
        self.tally = Tally()
        self._waiting: dict[str, deque[_Pending]] = {}
        self._suspects: deque[list[_Pending]] = deque()
        self._running: dict[int, _Running] = {}  # by the identity of the batch
        self._load: Counter[int] = Counter()  # batches at each place
        self._alone: set[int] = set()  # places that run what a worker died over, and nothing else
        self._key_at: dict[int, str] = {}
        self._number = 0
        self._batch_size = 1.0
        self._deaths: int | None = 0  # None: some batch came back

    @property
    def designs(self) -> int:
        """How many designs were asked for so far."""
        return self._number

    def run(self, designs: Iterable[Design]) -> None:
        """Runs all points of the designs that are not there. Returns when everything is written."""
        source = self._wanted(iter(designs))
        more = True
        while more or self._waiting or self._suspects or self._running:
            hungry = more and self._n_waiting < MOST_AHEAD // 2
            if hungry:
                fresh = list(islice(source, LOOK_UP))
                more = bool(fresh)
                for pending in fresh:
                    self._waiting.setdefault(pending.key, deque()).append(pending)
            self._deal()
            for done in self._workers.collect(0.0 if hungry else PATIENCE_S):
                self._take(done)

    def _wanted(self, designs: Iterator[Design]) -> Iterator[_Pending]:
        """The tasks of designs, without points that are there; faulty designs are written at once."""
        while chunk := list(islice(designs, LOOK_UP)):
            ids = [point_id(key, t.sha256) for design in chunk for key in design.ids for t in self._plan.traces]
            there: dict[str, tuple[str, str]] = {}
            for start in range(0, len(ids), 500):
                there |= self._store.statuses(ids[start : start + 500])
            for design in chunk:
                number, self._number = self._number, self._number + 1
                wanted = tuple(
                    (table, trace)
                    for table, key in enumerate(design.ids)
                    for trace, named in enumerate(self._plan.traces)
                    if not self._is_there(design, there.get(point_id(key, named.sha256)))
                )
                self.tally.there += len(design.ids) * len(self._plan.traces) - len(wanted)
                if design.fault:
                    self._write_faulty(design, number, wanted)
                elif wanted:
                    task = Task(design.parameters, design.arch, design.table, design.ids, wanted)
                    yield _Pending(task, number, _key(design.arch))

    def _is_there(self, design: Design, known: tuple[str, str] | None) -> bool:
        """Whether a point needs no run: one that a constraint ruled out may pass another spec's."""
        if known is None:
            return False
        status, numbers = known
        if status in (FAILED, KILLED):
            return not self._retry
        if status == INVALID and not design.fault and numbers != "{}":
            machines = self._plan.machines
            try:
                return bool(machines.broken(machines.on_machine, design.parameters, design.arch, json.loads(numbers)))
            except SweepError:
                return False
        return True

    @property
    def _n_waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    def _deal(self) -> None:
        """Fills the free places: what a worker died over first, then what shares counts with its last batch.

        What a worker died over is put where nothing else is, so that nothing else is blamed for the next death.
        """
        while places := self._places():
            share = -(-self._n_waiting // len(places))  # of few tasks everyone gets some
            for place in places:
                alone = bool(self._suspects)
                pending = self._suspects.popleft() if alone else self._next_batch(place, share)
                if not pending:
                    return
                batch = tuple(each.task for each in pending)
                self._running[id(batch)] = _Running(batch, pending, place, time.monotonic())
                self._load[place] += 1
                if alone:
                    self._alone.add(place)
                self._workers.submit(place, batch)

    def _places(self) -> list[int]:
        """The places that take a batch now; those that are empty while something waits to be alone there."""
        if not (self._suspects or self._waiting):
            return []
        free = [place for place in self._workers.free() if place not in self._alone]
        return [place for place in free if not self._load[place]] if self._suspects else free

    def _next_batch(self, place: int, most: int) -> list[_Pending]:
        if not self._waiting:
            return []
        taken = {key for other, key in self._key_at.items() if other != place}
        mine = self._key_at.get(place)
        key = mine if mine in self._waiting else next((k for k in self._waiting if k not in taken), None)
        key = key if key is not None else next(iter(self._waiting))
        queue = self._waiting[key]
        found = [queue.popleft() for _ in range(min(max(1, int(self._batch_size)), most, len(queue)))]
        if not queue:
            del self._waiting[key]
        self._key_at[place] = key
        return found

    def _take(self, done: Done) -> None:
        running = self._running.pop(id(done.batch))
        pending, place = running.pending, running.place
        was_alone = place in self._alone
        self._alone.discard(place)
        self._load[place] -= 1
        if not self._load[place]:
            del self._load[place]
        if not done.begun:
            self._put_back(pending, was_alone)
            return
        self._count_death(done)
        if done.found is not None:
            self._write(pending, done.found)
            self._learn(len(pending), time.monotonic() - running.began)
        elif len(pending) > 1:
            half = len(pending) // 2
            self._suspects.extend([pending[:half], pending[half:]])
        elif pending[0].attempts + 1 < ATTEMPTS_ALONE:
            pending[0].attempts += 1
            self._suspects.append(pending)
        else:
            self._write(pending, _killed(self._plan, pending[0].task))

    def _put_back(self, pending: list[_Pending], was_alone: bool) -> None:
        """What a place lost before it began waits again, in front."""
        if was_alone:
            self._suspects.appendleft(pending)
        else:
            self._waiting.setdefault(pending[0].key, deque()).extendleft(reversed(pending))

    def _count_death(self, done: Done) -> None:
        """Raises SweepError where workers die over whatever they are given: that is not the points' fault."""
        if done.found is not None:
            self._deaths = None
        elif self._deaths is not None:
            self._deaths += 1
            if self._deaths >= MOST_DEATHS:
                raise SweepError(
                    f"workers: expected some that live through a point; got {self._deaths} that died over their first"
                )

    def _learn(self, tasks: int, seconds: float) -> None:
        """Batches grow or shrink towards BATCH_SECONDS.

        A batch waits for the one before it, so this is on the safe side.
        """
        fitting = tasks * BATCH_SECONDS * 2 / max(seconds, 1e-3)
        self._batch_size = min(MOST_IN_BATCH, max(1.0, (self._batch_size + fitting) / 2))

    def _write(self, pending: list[_Pending], found: Iterable[Found]) -> None:
        rows = list(found)
        designs = [stored for each in pending for stored in self._stored(each.task, each.number)]
        self._store.add(designs, rows, again=True)
        self._count(rows)

    def _write_faulty(self, design: Design, number: int, wanted: tuple[tuple[int, int], ...]) -> None:
        rows = [
            Found(point_id(design.ids[table], self._plan.traces[trace].sha256), design.ids[table],
                  self._plan.traces[trace].sha256, INVALID, {}, design.fault)
            for table, trace in wanted
        ]  # fmt: skip
        if rows:
            self._store.add(list(self._stored(Task(design.parameters, {}, {}, design.ids, wanted), number)), rows)
            self._count(rows)

    def _count(self, rows: list[Found]) -> None:
        self.tally.done += len(rows)
        for row in rows:
            self.tally.by_status[row.status] = self.tally.by_status.get(row.status, 0) + 1
        self._watch(self.tally, rows)

    def _stored(self, task: Task, number: int) -> Iterator[Stored]:
        machines, names = self._plan.machines, self._plan.spec.energy_tables
        for table in sorted({table for table, _ in task.wanted}):
            yield Stored(
                id=task.ids[table],
                number=number,
                base=machines.base_sha256,
                table=machines.tables[table].sha256,
                energy_table=names[table],
                parameters=task.parameters,
                arch=task.arch,
                energy=task.table,
            )


def _killed(plan: Plan, task: Task) -> list[Found]:
    error = "its worker process died, twice with nothing else at work (out of memory, or killed from outside)"
    return [
        Found(point_id(task.ids[table], plan.traces[trace].sha256), task.ids[table], plan.traces[trace].sha256, KILLED,
              {}, error)
        for table, trace in task.wanted
    ]  # fmt: skip


def _key(arch: Mapping[str, Any]) -> str:
    """What the dearest counts of a machine hang on, of what its point changes."""
    dear = DEAREST[: DEAREST.index("engines.backward")]
    return repr([arch.get(path) for path in dear])


def check_traces(plan: Plan, designs: Iterable[Design]) -> Mapping[str, Mapping[str, Any]]:
    """Numbers of the machine as its file says, by trace and table. Raises SweepError for a trace that it cannot run,
    and that the first designs cannot run either."""
    session = Session(plan.setup)
    first = [design for design in islice(designs, 3) if not design.fault]
    machines, found = plan.machines, {}
    for index, named in enumerate(plan.traces):
        wanted = tuple((table, index) for table in range(len(machines.tables)))
        base = session.run(Task({}, {}, {}, machines.base_ids, wanted), unruled=True)
        if base[0].status != OK:
            tried = [session.run(Task(d.parameters, d.arch, d.table, d.ids, wanted[:1]), unruled=True) for d in first]
            if not any(points[0].status == OK for points in tried):
                where = plan.written.at("traces", str(index))
                raise SweepError(
                    f"{where}: expected a trace that some point can run; got {named.name}: {base[0].error}"
                )
        found[named.name] = {plan.spec.energy_tables[t]: row.numbers for (t, _), row in zip(wanted, base, strict=True)}
    return found

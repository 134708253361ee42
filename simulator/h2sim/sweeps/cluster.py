"""Batches of tasks on a cluster of Dask's: its scheduler and workers are other people's processes, on any machine.

Each batch is a task for one worker, pinned there, so that what shares counts stays together and so that a death is
blamed on what that worker was doing. What a sweep is made of is a task of its own that every batch depends on: Dask
brings it to each worker once, and makes it again where all that held it died. A worker keeps what it opened between
batches, and runs one batch at a time, however many threads it has: a process per core (`dask worker --nthreads 1`)
uses a machine best.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import pickle
import sys
import threading
import time
import uuid
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, cast

import dask.config as dask_config
import distributed
from distributed.versions import VersionMismatchWarning

from h2sim._version import MODEL_VERSION, __version__
from h2sim.errors import SweepError
from h2sim.io.files import replacing
from h2sim.sweeps.session import Found, Named, Session, Setup
from h2sim.sweeps.worker import run_batch
from h2sim.sweeps.workers import AHEAD, Batch, Done

CONNECT_S = 7.0
ANSWER_S = 10.0  # for a question to the scheduler, or for an answer that a worker has ready; then it is asked again
LOOK_S = 0.5  # between two looks at who is there
NOBODY_S = 60.0  # without any worker
MOST_SESSIONS = 2  # sweeps that a worker keeps open at once
MOST_REPEATS = 5  # of a batch that the scheduler lost

Versions = tuple[str, int, tuple[int, int]]


def versions() -> Versions:
    """What a worker must share with the coordinator: h2sim, its model, and the Python that pickles are from."""
    return __version__, MODEL_VERSION, (sys.version_info.major, sys.version_info.minor)


@dataclass(frozen=True)
class Refused:
    """Why a worker ran nothing. missing: traces that it lacks, by their index; else what is wrong, in a line."""

    said: str = ""
    missing: tuple[int, ...] = ()


_sessions: OrderedDict[str, Session] = OrderedDict()
_one_at_a_time = threading.Lock()


def run(expected: Versions, setup: bytes, batch: bytes, shipped: tuple[int, ...], *contents: bytes) -> bytes:
    """Runs a batch on a worker: a pickle of what it found, or of why it did not run it.

    shipped: the traces, by index, whose files are sent along, in the order of `contents`.
    """
    if versions() != expected:
        return pickle.dumps(Refused(f"expected {_named(expected)}, as here; got {_named(versions())}"))
    with _one_at_a_time:
        session = _session(setup, dict(zip(shipped, contents, strict=True)))
        found = session if isinstance(session, Refused) else run_batch(session, pickle.loads(batch))
    return pickle.dumps(found)


def _named(found: Versions) -> str:
    package, model, python = found
    return f"h2sim {package} (model {model}) on Python {python[0]}.{python[1]}"


def _session(pickled: bytes, shipped: dict[int, bytes]) -> Session | Refused:
    """What this process keeps for a setup; made at the first batch, when all traces are at hand."""
    key = hashlib.sha256(pickled).hexdigest()
    if key not in _sessions:
        setup: Setup = pickle.loads(pickled)
        traces = [_at_hand(named, shipped.get(index)) for index, named in enumerate(setup.traces)]
        if missing := tuple(index for index, named in enumerate(traces) if named is None):
            return Refused(missing=missing)
        _sessions[key] = Session(replace(setup, traces=tuple(filter(None, traces))))
    _sessions.move_to_end(key)
    while len(_sessions) > MOST_SESSIONS:
        _sessions.popitem(last=False)
    return _sessions[key]


def _at_hand(named: Named, content: bytes | None) -> Named | None:
    """A trace whose file this process can read: at its path, or put aside from what was sent; None: neither."""
    with suppress(OSError), Path(named.path).open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() == named.sha256:
            return named
    if content is None:
        return None
    aside = Path(distributed.get_worker().local_directory) / f"{named.sha256}.npz"
    with replacing(aside) as file:
        file.write_bytes(content)
    return replace(named, path=str(aside))


@dataclass
class _Sent:
    """A batch on its way. repeats: how often it was sent again."""

    batch: Batch
    place: int
    future: distributed.Future[Any]
    repeats: int = 0


class ClusterWorkers:
    """The workers of a Dask cluster, a place each; they may come and go. Raises SweepError, with the address, where
    nobody listens, the scheduler is lost, no worker is there for a minute, or one cannot run the sweep."""

    def __init__(self, setup: Setup, address: str) -> None:
        self.address = address
        self._setup = setup
        self._pickled = pickle.dumps(setup)
        self._quiet = _quiet()
        self._quiet.__enter__()
        try:
            self._client = _connected(address)
        except BaseException:
            self._quiet.__exit__(None, None, None)
            raise
        self._name = f"h2sim-sweep-{uuid.uuid4().hex[:12]}"
        self._number = itertools.count()
        self._ended: SimpleQueue[int] = SimpleQueue()
        self._sent: dict[int, _Sent] = {}  # by number
        self._addresses: dict[int, str] = {}  # by place
        self._places = itertools.count()
        self._needed: dict[str, distributed.Future[Any]] = {}  # setup and shipped traces, by the name of their task
        self._shipped: tuple[int, ...] = ()
        self._fault: SweepError | None = None
        self._looked = -LOOK_S
        self._seen = time.monotonic()  # a worker
        try:
            self._look()
        except BaseException:
            self.close()
            raise

    def free(self) -> list[int]:
        load = dict.fromkeys(self._addresses, 0)
        for sent in self._sent.values():
            if sent.place in load:
                load[sent.place] += 1
        return sorted((place for place in load if load[place] < AHEAD), key=load.__getitem__)

    def submit(self, place: int, batch: Batch) -> None:
        self._send(place, batch, 0)

    def collect(self, timeout_s: float) -> list[Done]:
        if self._fault:
            raise self._fault
        done: list[Done] = []
        try:
            with suppress(Empty):
                number = self._ended.get(timeout=timeout_s)
                while True:
                    done += self._received(number)
                    number = self._ended.get_nowait()
            if time.monotonic() - self._looked >= LOOK_S:
                done += self._look()
        except SweepError as fault:
            if not done:
                raise
            self._fault = fault  # what is done is handed over first
        return done

    def close(self) -> None:
        """Takes back what runs. A batch that a worker is amid ends there, and is dropped."""
        with suppress(Exception):
            self._client.cancel([sent.future for sent in self._sent.values()], force=True)
        self._sent.clear()
        self._needed.clear()
        with suppress(Exception):
            self._client.close(timeout=2)
        self._quiet.__exit__(None, None, None)

    def _send(self, place: int, batch: Batch, repeats: int) -> None:
        number = next(self._number)
        try:
            needed = [self._need("setup", self._pickled), *(self._trace(index) for index in self._shipped)]
            future = self._client.submit(
                run,
                versions(),
                needed[0],
                pickle.dumps(batch),
                self._shipped,
                *needed[1:],
                key=f"{self._name}-{number}",
                workers=[self._addresses[place]],
                allow_other_workers=False,
                priority=-number,  # what was sent first runs first
                pure=False,
            )
        except SweepError:
            raise
        except Exception as error:
            raise self._lost(error) from None
        self._sent[number] = _Sent(batch, place, future, repeats)
        future.add_done_callback(lambda _: self._ended.put(number))

    def _need(self, name: str, content: bytes) -> distributed.Future[Any]:
        """What batches depend on, as a task that hands it out; it is sent to the scheduler once."""
        future = self._needed.get(name)
        if future is None or future.status not in ("pending", "finished"):
            key = f"h2sim-{name}-{hashlib.sha256(content).hexdigest()[:16]}-{uuid.uuid4().hex[:8]}"
            with dask_config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):
                future = self._needed[name] = self._client.submit(bytes, content, key=key)
        return future

    def _trace(self, index: int) -> distributed.Future[Any]:
        known = self._needed.get(f"trace-{index}")
        if known is not None and known.status in ("pending", "finished"):
            return known
        named = self._setup.traces[index]
        try:
            content = Path(named.path).read_bytes()
        except OSError as error:
            raise SweepError(f"{named.path}: cannot be read any more: {error.strerror}") from None
        return self._need(f"trace-{index}", content)

    def _received(self, number: int) -> list[Done]:
        """What became of a batch whose task has ended; nothing where it is sent again."""
        sent = self._sent.pop(number, None)
        if sent is None:  # given up already
            return []
        status = sent.future.status
        if status == "error":
            return self._erred(sent, cast(BaseException, sent.future.exception(timeout=ANSWER_S)))
        if status != "finished":
            return self._again(sent, f"the scheduler dropped it ({status})")
        try:
            found: Sequence[Found] | Refused = pickle.loads(sent.future.result(timeout=ANSWER_S))
        except TimeoutError:
            if sent.place not in self._addresses:  # its worker died before the answer was fetched
                return self._again(sent, "")
            self._sent[number] = sent
            self._ended.put(number)
            return []
        except Exception as error:
            return self._again(sent, str(error))
        if not isinstance(found, Refused):
            return [Done(sent.batch, found)]
        where = self._addresses.get(sent.place, "a worker")
        if not found.missing or (set(found.missing) <= set(self._shipped) and sent.repeats >= MOST_REPEATS):
            said = found.said or f"cannot keep {self._setup.traces[found.missing[0]].path}"
            raise SweepError(f"{where}: {said}")
        self._shipped = tuple(sorted({*self._shipped, *found.missing}))
        return self._again(sent, "")

    def _erred(self, sent: _Sent, error: BaseException) -> list[Done]:
        if isinstance(error, distributed.KilledWorker):
            return [Done(sent.batch, None)]
        where = self._addresses.get(sent.place, "a worker")
        if isinstance(error, ModuleNotFoundError):
            package = str(error.name or error).split(".")[0]
            raise SweepError(f"{where}: expected {_named(versions())}, as here; got no package {package}")
        raise SweepError(f"{where}: a batch failed: {type(error).__name__}: {_line(error)}")

    def _again(self, sent: _Sent, said: str) -> list[Done]:
        """Sends a batch again that the scheduler or its worker lost for no fault of its own."""
        if self._client.status != "running":
            raise self._lost("")
        if sent.repeats >= MOST_REPEATS:
            raise SweepError(f"{self.address}: lost a batch {MOST_REPEATS + 1} times: {said}")
        if sent.place not in self._addresses:
            return [Done(sent.batch, None, begun=False)]
        self._send(sent.place, sent.batch, sent.repeats + 1)
        return []

    def _look(self) -> list[Done]:
        """Learns which workers are there now: new places, and what became of batches of those that are gone."""
        if self._client.status != "running":
            raise self._lost("")
        try:
            there = set(cast(Mapping[str, int], self._client.nthreads(callback_timeout=ANSWER_S)))
        except TimeoutError:  # it is busy; when it is gone the client knows
            there = set(self._addresses.values())
        except Exception as error:
            raise self._lost(error) from None
        self._looked = time.monotonic()
        gone = [place for place, address in self._addresses.items() if address not in there]
        for place in gone:
            del self._addresses[place]
        for address in sorted(there - set(self._addresses.values())):
            self._addresses[next(self._places)] = address
        if there:
            self._seen = self._looked
        elif self._looked - self._seen > NOBODY_S:
            raise SweepError(f"{self.address}: expected workers; got none for {NOBODY_S:.0f} s")
        return [done for place in gone for done in self._given_up(place)]

    def _given_up(self, place: int) -> Iterator[Done]:
        """The batches of a worker that is gone: it was at the first one, the others had not begun."""
        numbers = [number for number, sent in self._sent.items() if sent.place == place]
        waiting = [number for number in numbers if self._sent[number].future.status == "pending"]
        for number in waiting:
            sent = self._sent.pop(number)
            sent.future.cancel()
            yield Done(sent.batch, None, begun=number == waiting[0])

    def _lost(self, why: object) -> SweepError:
        said = f" ({_line(why)})" if str(why) else ""
        return SweepError(f"{self.address}: the scheduler is gone{said}; what was finished is kept")


def _connected(address: str) -> distributed.Client:
    """A client of the scheduler at an address, which was asked for its kind first: a client that finds none stays."""
    expected = f"{address}: expected a Dask scheduler that listens there"
    with ThreadPoolExecutor(1) as pool:  # whoever calls may be in a loop of their own, a notebook's say
        try:
            kind = pool.submit(asyncio.run, _kind(address)).result()
        except TimeoutError:
            raise SweepError(f"{expected}; got no answer within {CONNECT_S:.0f} s") from None
        except Exception as error:
            raise SweepError(f"{expected}; got {_line(error)}") from None
    if kind != "Scheduler":
        raise SweepError(f"{expected}; got {kind}")
    with warnings.catch_warnings():
        # whether workers fit is found by `versions`; what else differs changes no result
        warnings.simplefilter("ignore", VersionMismatchWarning)
        try:
            return distributed.Client(address, timeout=CONNECT_S, set_as_default=False, name="h2sim-sweep")
        except Exception as error:
            raise SweepError(f"{expected}, and serves this client; got {_line(error)}") from None


async def _kind(address: str) -> str:
    """What listens at an address, by its own word: `Scheduler`, `Worker`."""
    security = distributed.Security().get_connection_args("client")
    async with distributed.rpc(address, connection_args=security) as asked:
        answer: Any = await asyncio.wait_for(asked.identity(), CONNECT_S)
    return str(answer.get("type"))


def _line(error: object) -> str:
    """What an error says, in a line."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


@contextmanager
def _quiet() -> Iterator[None]:
    """A block in which Dask does not log here what a SweepError says in a line."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client", "distributed.core", "tornado")]
    before = [(logger, logger.level) for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        yield
    finally:
        for logger, level in before:
            logger.setLevel(level)

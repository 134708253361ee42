"""A local worker: a process of its own that is sent tasks, runs them and sends back what it found.

Frames are pickles with their length in front, on standard input and output. The process that asked for the work holds
the other end of standard input: when it is gone, whatever became of it, the input ends and so does the worker, in the
middle of a task and of its own start too. Nothing is imported before it listens.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import sys
import threading
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from h2sim.sweeps.session import Session, Task

_LENGTH = struct.Struct("<Q")


def send(stream: IO[bytes], message: Any) -> None:
    """Writes one frame."""
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Reads one frame. Raises EOFError at the end of the stream, in the middle of a frame too."""
    return pickle.loads(_frame(stream))


def _frame(stream: IO[bytes]) -> bytes:
    return _exactly(stream, _LENGTH.unpack(_exactly(stream, _LENGTH.size))[0])


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data


def main() -> None:
    """Runs batches of tasks until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal that is not ours; the coordinator decides
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints may not break a frame
    frames: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, frames), daemon=True).start()
    from h2sim.sweeps.session import Session

    session = Session(pickle.loads(frames.get()))
    try:
        send(output, None)  # it has begun
        while True:
            send(output, run_batch(session, pickle.loads(frames.get())))
    except BrokenPipeError:  # whoever asked is gone
        os._exit(0)


def run_batch(session: Session, tasks: tuple[Task, ...]) -> list[Any]:
    """What is found of each point of the tasks."""
    return [found for task in tasks for found in session.run(task)]


def _listen(stream: IO[bytes], frames: SimpleQueue[bytes]) -> None:
    """Queues frames; the process ends with the stream, or where a frame has no room."""
    try:
        while True:
            frames.put(_frame(stream))
    except (EOFError, OSError, ValueError):
        os._exit(0)
    except MemoryError:
        os._exit(1)


if __name__ == "__main__":
    main()

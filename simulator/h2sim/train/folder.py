"""A training run on disk: run.json, checkpoint.pt, log.csv and traces/, each written aside and then renamed.

A run that was killed continues from its last checkpoint. It ends with the weights and traces, byte for byte, of a run
that was never stopped. A run may go on for more epochs than it began with. Where the learning rate does not depend on
their number, it ends in the bytes of a run that began with so many; where it does, run.json says how it went.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from h2sim.errors import TrainingError, at
from h2sim.io.files import check_writable, replacing, write_text
from h2sim.train.checkpoint import COLUMNS, check_checkpoint, read_checkpoint
from h2sim.train.run_json import as_begun, read_run, write_run
from h2sim.train.settings import Settings
from h2sim.train.trainer import Trainer
from h2sim.train.writer import TraceWriter

CHECKPOINT_SECONDS = 60.0


@dataclass(frozen=True)
class TracePlan:
    """Which training steps are traced.

    epochs: trace steps after these epochs (0: before training). batches: how many steps each time. samples: how many
    samples of each step, the first ones of its batch. values: keep membranes, gradients and weights beside the masks,
    which `h2sim verify` needs. Steps that are traced after the last epoch change no weights.
    """

    epochs: tuple[int, ...] = ()
    batches: int = 1
    samples: int = 4
    values: bool = False


@dataclass(frozen=True)
class Report:
    """Functions that are called as a run goes on.

    step(iteration, iterations of the run, loss): after each step. epoch(log row): after each epoch. trace(path): after
    each trace is written.
    """

    step: Callable[[int, int, float], None] = lambda iteration, total, loss: None
    epoch: Callable[[dict[str, Any]], None] = lambda row: None
    trace: Callable[[Path], None] = lambda path: None


@dataclass
class RunFolder:
    """The files of one run. rows: log.csv, one row per epoch. losses: of the steps of the current epoch."""

    path: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @property
    def checkpoint(self) -> Path:
        """Path of the checkpoint."""
        return self.path / "checkpoint.pt"

    def start(self, settings: Settings) -> None:
        """Makes the folder of a new run.

        Raises TrainingError if it already holds a run, OutputError if it cannot be written.
        """
        if (self.path / "run.json").exists():
            raise TrainingError(f"{self.path}: holds a run already: --resume goes on with it; or name another folder")
        if self.path.exists() and not self.path.is_dir():
            raise TrainingError(f"{self.path}: expected a folder for the run, or a name for one; got a file")
        check_writable(self.path / "run.json") if self.path.exists() else check_writable(self.path)
        self.path.mkdir(exist_ok=True)
        write_run(self.path, settings)

    def resume(self, settings: Settings, trainer: Trainer) -> None:
        """Sets `trainer` to the state of the last checkpoint. `settings` may have another number of epochs.

        Raises TrainingError if the folder holds no run, a run with other settings, or one with more epochs behind it.
        """
        began = as_begun(self.path, settings, trainer.iterations_per_epoch)
        if self.checkpoint.exists():
            state = read_checkpoint(self.checkpoint)
            self._check_enough(state["trainer"]["iteration"], began, trainer)
            check_checkpoint(self.checkpoint, state, trainer)
            self.rows, self.losses = state["log"], state["losses"]
            trainer.load_state(state["trainer"])
            self._write_log()  # a run that was killed right behind its checkpoint has an older one
        trainer.settings = began
        if settings.epochs != began.epochs:
            trainer.settings = began.replanned(settings.epochs, trainer.iteration)
            write_run(self.path, trainer.settings)

    def _check_enough(self, done: Any, began: Settings, trainer: Trainer) -> None:
        """Raises TrainingError if the trainer is to end before where the run is; what no run has is for others."""
        per_epoch = trainer.iterations_per_epoch
        if type(done) is int and trainer.iterations < done <= began.epochs * per_epoch:
            wanted = f"at least {-(-done // per_epoch)}, as many as have begun"
            raise TrainingError(at(str(self.path), "epochs", wanted, trainer.settings.epochs))

    def save(self, trainer: Trainer) -> None:
        """Writes checkpoint and log."""
        with replacing(self.checkpoint) as aside:
            torch.save({"trainer": trainer.state(), "log": self.rows, "losses": self.losses}, aside)
        self._write_log()

    def _write_log(self) -> None:
        cells = [["" if row[name] is None else str(row[name]) for name in COLUMNS] for row in self.rows]
        lines = [",".join(line) for line in (COLUMNS, *cells)]
        write_text(self.path / "log.csv", "\n".join(lines) + "\n")


def start_weights(trainer: Trainer, folder: Path) -> None:
    """Copies the weights at the end of another run into the trainer's network.

    Raises TrainingError if they do not fit.
    """
    read_run(folder)
    state = read_checkpoint(folder / "checkpoint.pt")
    try:
        trainer.network.load_state_dict(state["trainer"]["network"])
    except RuntimeError as error:
        raise TrainingError(f"{folder}: expected weights of this network; got {' '.join(str(error).split())}") from None


class Run:
    """A run that trains to its end and writes checkpoints, log and traces to a folder."""

    def __init__(
        self, trainer: Trainer, folder: RunFolder, plan: TracePlan, test_samples: int | None, report: Report
    ) -> None:
        self.trainer, self.folder, self.plan = trainer, folder, plan
        self.test_samples, self.report = test_samples, report
        self.saved = self.began = time.monotonic()
        self.writer = TraceWriter(report.trace)

    def to_the_end(self) -> None:
        """Trains from the trainer's present iteration to the last."""
        with self.writer:
            self._iterate()

    def _iterate(self) -> None:
        trainer, per_epoch = self.trainer, self.trainer.iterations_per_epoch
        while True:
            done = trainer.iteration
            if done % per_epoch == 0:
                self._epoch_ended(trainer.epoch)
            if done == trainer.iterations:
                self._last_traces()
                return
            self._step(done % per_epoch, trainer.epoch)
            if time.monotonic() - self.saved > CHECKPOINT_SECONDS:
                self._save()

    def _step(self, number: int, epochs_done: int) -> None:
        """One iteration, the `number`-th after `epochs_done` whole epochs."""
        if epochs_done in self.plan.epochs and number < self.plan.batches:
            loss = self._traced(number, epochs_done)
        else:
            loss = self.trainer.step()
        self.folder.losses.append(loss)
        self.report.step(self.trainer.iteration, self.trainer.iterations, loss)

    def _last_traces(self) -> None:
        if self.trainer.epoch in self.plan.epochs:
            state = self.trainer.stream.state()
            for number in range(self.plan.batches):
                self._traced(number, self.trainer.epoch)
            self.trainer.stream.load_state(state)

    def _traced(self, number: int, epoch: int) -> float:
        plan = self.plan
        loss, records, part = self.trainer.recorded_step(plan.samples, plan.values)
        folder = self.folder.path / "traces" / f"epoch-{epoch:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        source = {
            "epoch": epoch,
            "iteration": epoch * self.trainer.iterations_per_epoch + number,
            "accuracy": self._accuracy_of(epoch),
            "loss_value": loss,
            "samples": f"the first {plan.samples} of a batch: rows {part.rows.tolist()}",
        }
        for period, record in enumerate(records, 1):
            name = f"batch-{number:02d}" + (f"-period-{period}" if len(records) > 1 else "")
            of_all = {"period": [period, len(records)]} if len(records) > 1 else {}
            write = partial(self.trainer.write_trace, record=record, batch=part, source={**source, **of_all})
            self.writer.submit(folder / f"{name}.npz", write)
        return loss

    def _accuracy_of(self, epoch: int) -> float | None:
        row = self._row_of(epoch)
        return None if row is None else row["accuracy"]

    def _row_of(self, epoch: int) -> dict[str, Any] | None:
        return next((row for row in self.folder.rows if row["epoch"] == epoch), None)

    def _epoch_ended(self, epoch: int) -> None:
        row = self._row_of(epoch)
        if row is None and epoch == 0 and 0 not in self.plan.epochs:
            return
        samples = None if self.trainer.iteration == self.trainer.iterations else self.test_samples
        tested = min(len(self.trainer.dataset.test), samples or len(self.trainer.dataset.test))
        if row is not None and row["test_samples"] == tested:
            return
        accuracy = self.trainer.accuracy(samples)
        if row is None:
            row = self._new_row(epoch, accuracy, tested)
        else:  # it was the last epoch and is so no more, or the reverse
            row |= {"accuracy": accuracy, "test_samples": tested}
        self.report.epoch(row)
        self._save()

    def _new_row(self, epoch: int, accuracy: float, tested: int) -> dict[str, Any]:
        """The log's row of an epoch that has just ended."""
        losses, rows = self.folder.losses, self.folder.rows
        seconds = rows[-1]["seconds"] if rows else 0.0
        row = {
            "epoch": epoch,
            "iteration": self.trainer.iteration,
            "loss": sum(losses) / len(losses) if losses else None,
            "accuracy": accuracy,
            "test_samples": tested,
            "seconds": round(seconds + time.monotonic() - self.began, 1),
        }
        self.began, self.folder.losses = time.monotonic(), []
        rows.append(row)
        return row

    def _save(self) -> None:
        self.writer.wait()  # a run that goes on from here has its earlier traces
        self.folder.save(self.trainer)
        self.saved = time.monotonic()

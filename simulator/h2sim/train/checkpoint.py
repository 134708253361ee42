"""A checkpoint as a file: what is read of it, and that it is of this run.

A checkpoint decides every number that follows. So each value is checked against the trainer that goes on with it: a
wrong one would train for ever, fail with a traceback, or end in other bytes without a word.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from h2sim.errors import TrainingError, at
from h2sim.io.faults import show
from h2sim.io.reading import GIB, check_file
from h2sim.train.trainer import Trainer

MOST_CHECKPOINT_BYTES = 16 * GIB
LEAST_FIELDS = ("trainer", "log", "losses")
COLUMNS = ("epoch", "iteration", "loss", "accuracy", "test_samples", "seconds")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state in a checkpoint, as it was saved: `trainer`, `log` and `losses`.

    Only tensors and plain data are unpacked, and nothing that is packed. Raises TrainingError if the file is damaged.
    """
    try:
        check_file(path, MOST_CHECKPOINT_BYTES)
        _check_stored(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever zip and pickle raise
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:120] or type(error).__name__
        raise TrainingError(f"{path}: expected a checkpoint of h2sim train; got damage: {reason}") from None
    _dict(str(path), "top level", state, LEAST_FIELDS)
    _dict(str(path), "trainer", state["trainer"], ("iteration", "network", "optimizer", "stream"))
    _weights(str(path), state["trainer"]["network"])
    return dict(state)


def check_checkpoint(path: Path, state: Mapping[str, Any], trainer: Trainer) -> None:
    """Raises TrainingError unless `trainer` can go on from this state, and its run could have come to it."""
    _Check(str(path), trainer).state(state)


def _check_stored(path: Path) -> None:
    """Raises ValueError unless the file is a zip archive of whole members that are stored as they are."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("packed members, where torch stores them as they are")
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise ValueError("members that are larger than the file")
        if (bad := archive.testzip()) is not None:
            raise ValueError(f"the wrong checksum of {show(bad)}")


def _dict(where: str, field: str, value: Any, names: tuple[str, ...]) -> None:
    if not isinstance(value, dict):
        raise TrainingError(at(where, field, f"a dict with {', '.join(names)}", type(value).__name__))
    for name in names:
        if name not in value:
            raise TrainingError(at(where, f"{field}: {name}", "a value", "none"))


def _weights(where: str, weights: Any) -> None:
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        raise TrainingError(at(where, "trainer.network", "a dict of tensors by name", type(weights).__name__))
    for name, weight in weights.items():
        _finite(where, f"trainer.network.{name}", weight)


def _finite(where: str, field: str, value: Any, shape: tuple[int, ...] | None = None) -> torch.Tensor:
    """The value, if it is a whole float32 tensor of finite numbers (and of this shape)."""
    wanted = "float32" if shape is None else f"float32 of shape {list(shape)}"
    if not isinstance(value, torch.Tensor):
        raise TrainingError(at(where, field, wanted, show(value)))
    if not _is_whole(value) or value.dtype != torch.float32 or (shape is not None and tuple(value.shape) != shape):
        raise TrainingError(at(where, field, wanted, f"{value.dtype} of shape {list(value.shape)}"))
    if not bool(torch.isfinite(value).all()):
        raise TrainingError(at(where, field, "finite numbers", "others"))
    return value


def _is_whole(value: torch.Tensor) -> bool:
    """Whether each of its numbers lies in memory once: a tensor can have a shape of terabytes and no numbers."""
    return value.layout == torch.strided and value.device.type == "cpu" and value.is_contiguous()


def _same(value: object, wanted: object) -> bool:
    """Whether two options of an optimizer are equal, of the same types all through: tensors compare to tensors."""
    if type(value) is not type(wanted):
        return False
    if isinstance(value, list | tuple) and isinstance(wanted, list | tuple):
        return len(value) == len(wanted) and all(map(_same, value, wanted))
    return bool(value == wanted)


def _moment_names(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    """What an optimizer keeps of each parameter; of one that is not known nothing may be kept."""
    options = optimizer.param_groups[0]
    if isinstance(optimizer, torch.optim.Adam):
        return ("step", "exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if options["amsgrad"] else ()))
    return ("momentum_buffer",) if options.get("momentum") else ()


class _Check:
    """The checks of one checkpoint against its trainer. Every method raises TrainingError, which names the field."""

    def __init__(self, where: str, trainer: Trainer) -> None:
        self.where, self.trainer = where, trainer

    def state(self, state: Mapping[str, Any]) -> None:
        inner = state["trainer"]
        self.iteration = self._integer("trainer.iteration", inner["iteration"], 0, self.trainer.iterations)
        self._network(inner["network"])
        self._optimizer(inner["optimizer"])
        self._stream(inner["stream"])
        self._recipe(inner.get("recipe", {}))
        self._losses(state["losses"], self._log(state["log"]))

    def _wrong(self, field: str, wanted: str, got: object) -> TrainingError:
        return TrainingError(at(self.where, field, wanted, got))

    def _integer(self, field: str, value: Any, least: int, most: int) -> int:
        if type(value) is not int or not least <= value <= most:
            wanted = f"{least}" if least == most else f"an integer from {least} to {most}"
            raise self._wrong(field, wanted, show(value))
        return value

    def _number(self, field: str, value: Any, least: float, most: float = math.inf) -> None:
        if type(value) is not float or not math.isfinite(value) or not least <= value <= most:
            wanted = "a finite number" if math.isinf(most) else f"a number from {least:g} to {most:g}"
            raise self._wrong(field, wanted, show(value))

    def _network(self, weights: Mapping[str, torch.Tensor]) -> None:
        own = self.trainer.network.state_dict()
        if missing := next((name for name in own if name not in weights), None):
            raise self._wrong(f"trainer.network.{missing}", "the weights of this network", "none")
        if more := next((name for name in weights if name not in own), None):
            raise self._wrong("trainer.network", "the weights of this network", f"{show(more)} as well")
        for name, weight in own.items():
            values = _finite(self.where, f"trainer.network.{name}", weights[name], tuple(weight.shape))
            if name.startswith("norms.") and ".variance" in name and bool((values < 0).any()):
                raise self._wrong(f"trainer.network.{name}", "variances", "numbers below 0")

    def _optimizer(self, state: Any) -> None:
        own = self.trainer.optimizer.state_dict()
        _dict(self.where, "trainer.optimizer", state, ("state", "param_groups"))
        self._groups(state["param_groups"], own["param_groups"])
        groups = self.trainer.optimizer.param_groups
        kept, parameters = state["state"], [parameter for group in groups for parameter in group["params"]]
        if not isinstance(kept, dict) or not all(type(i) is int and 0 <= i < len(parameters) for i in kept):
            wanted = f"a dict by numbers of parameters, 0 to {len(parameters) - 1}"
            raise self._wrong("trainer.optimizer.state", wanted, show(kept))
        has_state = bool(_moment_names(self.trainer.optimizer))
        if self.iteration and has_state and len(kept) < len(parameters):
            raise self._wrong("trainer.optimizer.state", f"{len(parameters)} parameters", len(kept))
        if not self.iteration and kept:
            raise self._wrong("trainer.optimizer.state", "nothing before the first iteration", len(kept))
        for number, moments in kept.items():
            self._moments(f"trainer.optimizer.state.{number}", moments, tuple(parameters[number].shape))

    def _recipe(self, state: Any) -> None:
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
            raise self._wrong("trainer.recipe", "a dict by name", type(state).__name__)
        try:
            self.trainer.recipe.check_state(state, self.trainer, self.iteration)
        except ValueError as error:
            raise TrainingError(f"{self.where}: trainer.recipe.{error}") from None

    def _groups(self, groups: Any, own: list[dict[str, Any]]) -> None:
        field = "trainer.optimizer.param_groups"
        if not isinstance(groups, list) or len(groups) != len(own) or not all(isinstance(g, dict) for g in groups):
            raise self._wrong(field, f"a list of {len(own)}", type(groups).__name__)
        for group, wanted in zip(groups, own, strict=True):
            if set(group) != set(wanted):
                odd = sorted(map(str, set(group) ^ set(wanted)))[0]
                raise self._wrong(
                    field, f"the fields of {type(self.trainer.optimizer).__name__}", f"a difference: {show(odd)}"
                )
            self._number(f"{field}.lr", group["lr"], 0.0)
            for name in wanted:
                if name != "lr" and not _same(group[name], wanted[name]):
                    raise self._wrong(f"{field}.{name}", show(wanted[name]), show(group[name]))

    def _moments(self, field: str, moments: Any, shape: tuple[int, ...]) -> None:
        names = _moment_names(self.trainer.optimizer)
        _dict(self.where, field, moments, names)
        if len(moments) > len(names):
            raise self._wrong(field, f"{', '.join(names) or 'nothing'}", f"{len(moments)} fields")
        for name in names:
            values = _finite(self.where, f"{field}.{name}", moments[name], () if name == "step" else shape)
            updates = self.iteration * self.trainer.recipe.updates
            if name == "step" and float(values) != float(torch.tensor(float(updates))):
                raise self._wrong(f"{field}.step", f"{updates}, the updates so far", float(values))
            if name.endswith("_sq") and bool((values < 0).any()):
                raise self._wrong(f"{field}.{name}", "squares", "numbers below 0")

    def _stream(self, state: Any) -> None:
        _dict(self.where, "trainer.stream", state, ("generator", "order", "start"))
        stream, per_epoch = self.trainer.stream, self.trainer.iterations_per_epoch
        self._plain("trainer.stream.generator", state["generator"], stream.generator.get_state())
        try:
            torch.Generator().set_state(state["generator"])
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:120]
            raise self._wrong("trainer.stream.generator", "a generator's state", reason) from None
        drawn = torch.arange(stream.available if self.iteration else 0)
        self._plain("trainer.stream.order", state["order"], drawn)
        if not torch.equal(state["order"].sort().values, drawn):
            raise self._wrong("trainer.stream.order", f"each of 0 to {stream.available - 1} once", "others")
        start = ((self.iteration - 1) % per_epoch + 1) * stream.batch if self.iteration else 0
        self._integer("trainer.stream.start", state["start"], start, start)

    def _plain(self, field: str, value: Any, like: torch.Tensor) -> None:
        if not isinstance(value, torch.Tensor):
            raise self._wrong(field, f"{like.dtype} of shape {list(like.shape)}", show(type(value).__name__))
        if not _is_whole(value) or value.dtype != like.dtype or value.shape != like.shape:
            got = f"{value.dtype} of shape {list(value.shape)}"
            raise self._wrong(field, f"{like.dtype} of shape {list(like.shape)}", got)

    def _log(self, rows: Any) -> int:
        """The last epoch in the log, 0 without one."""
        epochs = self.iteration // self.trainer.iterations_per_epoch
        if not isinstance(rows, list) or len(rows) > epochs + 1:
            raise self._wrong("log", f"a list of at most {epochs + 1} rows", show(rows))
        epoch = -1
        for number, row in enumerate(rows):
            _dict(self.where, f"log.{number}", row, COLUMNS)
            most = epoch + 1 if number else min(1, epochs)  # the first row is of epoch 0 or 1
            epoch = self._integer(f"log.{number}.epoch", row["epoch"], epoch + 1, min(most, epochs))
            done = epoch * self.trainer.iterations_per_epoch
            self._integer(f"log.{number}.iteration", row["iteration"], done, done)
            if row["loss"] is not None:
                self._number(f"log.{number}.loss", row["loss"], -math.inf)
            self._number(f"log.{number}.accuracy", row["accuracy"], 0.0, 1.0)
            self._integer(f"log.{number}.test_samples", row["test_samples"], 1, len(self.trainer.dataset.test))
            self._number(f"log.{number}.seconds", row["seconds"], 0.0)
        return max(epoch, 0)

    def _losses(self, losses: Any, epoch: int) -> None:
        wanted = self.iteration - epoch * self.trainer.iterations_per_epoch
        if not isinstance(losses, list) or len(losses) != wanted:
            raise self._wrong("losses", f"a list of {wanted}, one of each step since epoch {epoch}", show(losses))
        for number, loss in enumerate(losses):
            self._number(f"losses.{number}", loss, -math.inf)

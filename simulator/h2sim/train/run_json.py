"""run.json of a run's folder: the settings that it began with, and the number of epochs that it now has."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from h2sim.errors import NetworkError, TrainingError, at
from h2sim.io.faults import show
from h2sim.io.files import write_text
from h2sim.io.jsonfile import parse_json
from h2sim.io.reading import MOST_JSON_BYTES, read_text
from h2sim.train.lif import Neuron
from h2sim.train.settings import Plan, Settings

NAME = "run.json"
DEFAULTS = {setting.name: setting.default for setting in fields(Settings) if setting.default is not MISSING}
PLANNED = ("epochs", "earlier", "backend")  # what may change as a run goes on


def write_run(folder: Path, settings: Settings) -> None:
    """Writes the settings, whole or not at all."""
    write_text(folder / NAME, json.dumps(settings.to_dict(), indent=1) + "\n")


def read_run(folder: Path) -> dict[str, Any]:
    """The settings of a run. Raises TrainingError if there are none or the file is damaged."""
    where = folder / NAME
    try:
        settings = parse_json(read_text(where, MOST_JSON_BYTES))
    except FileNotFoundError:
        raise TrainingError(f"{folder}: expected the folder of a training run; got no run.json in it") from None
    except RecursionError:
        raise TrainingError(f"{where}: cannot be read: lists in lists without end") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TrainingError(f"{where}: cannot be read: {reason}") from None
    if not isinstance(settings, dict):
        raise TrainingError(at(str(where), "top level", "a mapping of settings", type(settings).__name__))
    return settings


def settings_of(folder: Path) -> Settings:
    """The settings of the run in a folder. Raises TrainingError, a line per field that is damaged."""
    data, where = read_run(folder), str(folder / NAME)
    try:
        neuron = Neuron.from_meta(data["neuron"])
    except KeyError as error:
        raise TrainingError(at(where, "neuron", f"the field {error}", "none")) from None
    except (TypeError, ValueError) as error:
        raise TrainingError(at(where, "neuron", "a neuron's fields", show(str(error)))) from None
    except NetworkError as error:
        raise TrainingError(*(f"{where}: {line}" for line in error.lines)) from None
    try:
        return TypeAdapter(Settings).validate_python({**data, "neuron": neuron})
    except ValidationError as error:
        faults = ((".".join(map(str, fault["loc"])), fault["msg"].lower()) for fault in error.errors(include_url=False))
        raise TrainingError(*(f"{where}: {field}: {said}" for field, said in faults)) from None


def as_begun(folder: Path, settings: Settings, per_epoch: int) -> Settings:
    """The settings with the epochs of the run in `folder`, and its earlier plans. per_epoch: iterations of one epoch.

    Raises TrainingError if another setting is not that of the run, or if the file is damaged.
    """
    before, where = read_run(folder), str(folder / NAME)
    now = json.loads(json.dumps(settings.to_dict()))
    for name in (*now, *(name for name in before if name not in now)):
        was, is_now = (data.get(name, DEFAULTS.get(name)) for data in (before, now))
        if was != is_now and name not in PLANNED:
            raise TrainingError(at(where, name, f"{show(was)}, as the run began", show(is_now)))
    epochs = before.get("epochs")
    if type(epochs) is not int or epochs < 1:
        raise TrainingError(at(where, "epochs", "an integer of at least 1", show(epochs)))
    return replace(settings, epochs=epochs, earlier=_plans(where, before.get("earlier", []), per_epoch))


def _plans(where: str, entries: Any, per_epoch: int) -> tuple[Plan, ...]:
    """Earlier plans, each of which had as many iterations as it came to, and came further than those before."""
    plans: list[Plan] = []
    if not isinstance(entries, list):
        raise TrainingError(at(where, "earlier", "a list of plans", show(entries)))
    for entry in entries:
        plan, least = _plan(entry), plans[-1].iterations + 1 if plans else 1
        if plan is None or not least <= plan.iterations <= plan.epochs * per_epoch:
            wanted = f"epochs, and iterations from {least} to those of the epochs, in each entry"
            raise TrainingError(at(where, "earlier", wanted, show(entry)))
        plans.append(plan)
    return tuple(plans)


def _plan(entry: Any) -> Plan | None:
    if not isinstance(entry, dict) or set(entry) != {"epochs", "iterations"}:
        return None
    whole = type(entry["epochs"]) is int and type(entry["iterations"]) is int
    return Plan(**entry) if whole else None

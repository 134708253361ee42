"""The recipes that there are, by name: h2sim's own and those of other packages. Nothing of torch is imported here."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from h2sim.errors import TrainingError, at

GROUP = "h2sim.recipes"  # of entry points
OWN = {
    "bptt": "h2sim.train.recipe:Bptt",
    "ann": "h2sim.algorithms.ann:Ann",
    "diet": "h2sim.algorithms.diet:Diet",
    "hire": "h2sim.algorithms.hire:Hire",
    "certified": "h2sim.algorithms.certified:Certified",
}
PLAIN = "bptt"  # the recipe without options of its own


def names() -> list[str]:
    """The recipes that there are: h2sim's own, then those of other packages."""
    return list(dict.fromkeys([*OWN, *sorted(entry.name for entry in entry_points(group=GROUP))]))


def find_recipe(name: str) -> Any:
    """The class of a recipe, a subclass of h2sim.train.recipe.Recipe.

    Raises TrainingError where there is none, or the package behind it is at fault.
    """
    if name in OWN:
        module, _, attribute = OWN[name].partition(":")
        return getattr(import_module(module), attribute)
    entry = next((entry for entry in entry_points(group=GROUP) if entry.name == name), None)
    if entry is None:
        raise TrainingError(at("training", "recipe", f"one of {', '.join(names())}", repr(name)))
    try:
        loaded = entry.load()
    except Exception as error:  # whatever another package raises as it is imported
        raise TrainingError(
            f"recipe {name}: {entry.value}: cannot be imported: {error or type(error).__name__}"
        ) from None
    base = import_module("h2sim.train.recipe").Recipe
    if not (isinstance(loaded, type) and issubclass(loaded, base)):
        raise TrainingError(at(f"recipe {name}", entry.value, "a subclass of h2sim.train.recipe.Recipe", repr(loaded)))
    return loaded

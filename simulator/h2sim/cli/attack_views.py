"""What `h2sim attack` says and writes of what it found."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from h2sim.cli.trained import sha256_of_run

if TYPE_CHECKING:
    from h2sim.attacks.evaluate import Check, Outcome
    from h2sim.attacks.summary import SpikeSummary
    from h2sim.document import Document, Part
    from h2sim.train.trainer import Trainer

SCHEMA = "h2sim-robustness"
NORMS = {"perturbation": "mean square", "l2_over_n": "2-norm / N", "l2": "2-norm", "linf": "largest",
         "l0_over_n": "share moved"}  # fmt: skip


@dataclass
class Found:
    """What was found of a run."""

    clean: float
    outcomes: list[Outcome] = field(default_factory=list)
    signs: list[Check] = field(default_factory=list)
    spikes: list[SpikeSummary] = field(default_factory=list)


def attack_document(run: str, found: Found) -> Document:
    """A sentence with what was found, then tables."""
    from h2sim.document import Document, percent, table

    parts: list[Part] = _box_parts(found.outcomes)
    if found.signs:
        shown = [
            [each.name, ", ".join(percent(v, 1) for v in each.values), "yes" if each.found else "no"]
            for each in found.signs
        ]
        parts.append(table("Signs of masked gradients", ["sign", "accuracies"], ["there"], shown))
    parts += _spike_parts(found.spikes)
    return Document(_verdict(run, found), tuple(parts))


def _share(value: float | None) -> str:
    from h2sim.document import percent

    return "-" if value is None else percent(value, 1)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _name(outcome: Outcome) -> str:
    how = outcome.attack
    return f"{how.method}{', targeted' if how.targeted else ''}{', black box' if outcome.black_box else ''}"


def _box_parts(found: list[Outcome]) -> list[Part]:
    from h2sim.document import percent, table

    if not found:
        return []
    rows = [
        [_name(each), f"{each.attack.epsilon:g}", "1" if each.attack.method == "fgsm" else str(each.attack.steps),
         percent(each.accuracy, 2), str(each.attacked), _share(each.success), _share(each.null),
         _number(each.norms["perturbation"]), f"{each.distance:.3g}"]
        for each in found
    ]  # fmt: skip
    heads = ["epsilon", "steps", "accuracy", "attacked", "success", "by resampling alone", "mean square",
             "distance (2-norm)"]  # fmt: skip
    return [table("Attacks", ["attack"], heads, rows)]


def _spike_parts(found: list[SpikeSummary]) -> list[Part]:
    from h2sim.document import table

    if not found:
        return []
    rows = [
        [each.name, str(each.attacked), _share(each.success), _share(each.null), _share(each.fresh),
         _number(each.norms["perturbation"]), _number(each.iterations), _share(each.vanished), _number(each.flips),
         _share(each.kept)]
        for each in found
    ]  # fmt: skip
    dtypes = ", ".join(dict.fromkeys(each.gradient_dtype for each in found))
    heads = ["attacked", "success", "by resampling alone", "again on fresh spikes", "mean square", "iterations",
             f"no gradient at first ({dtypes})", "flips", "kept by G2S"]  # fmt: skip
    parts: list[Part] = [table("Spike-compatible attack", ["attack"], heads, rows)]
    crossed = [
        [each.name, str(each.judged), _share(each.transferred), _share(each.transferred_null)]
        for each in found
        if each.black_box
    ]
    if crossed:
        heads = ["examples whose sample RUN reads right", "misread by RUN", "by resampling alone"]
        parts.append(table("Examples of the other network", ["attack"], heads, crossed))
    norms = [[each.name, *(_number(each.norms[name]) for name in each.norms)] for each in found]
    parts.append(table("Distances of the examples", ["attack"], [NORMS[name] for name in found[0].norms], norms))
    longest = max(len(each.penultimate) for each in found)
    if longest:
        spikes = [
            [str(k + 1), *(f"{each.penultimate[k]:.1f}" if k < len(each.penultimate) else "-" for each in found)]
            for k in range(longest)
        ]
        title = "Spikes of the penultimate layer, a sample under attack"
        parts.append(table(title, ["iteration"], [each.name for each in found], spikes))
    return parts


def _spike_verdict(run: str, best: SpikeSummary) -> str:
    if not best.attacked:
        return f"{run}: {best.name} attacks none of {best.samples} samples: none was read right."
    null = "" if best.null is None else f"; resampling alone of {_share(best.null)}"
    end = ""
    if best.black_box:
        shown = f"misreads {_share(best.transferred)} of the {best.judged}" if best.judged else "is shown none"
        end = f" {run} {shown} whose sample it reads right."
    success = _share(best.success)
    return f"{run}: {best.name} finds examples of {success} of the {best.attacked} that were read right{null}.{end}"


def _verdict(run: str, found: Found) -> str:
    from h2sim.document import percent

    if not found.outcomes:
        return _spike_verdict(run, max(found.spikes, key=lambda each: each.success or 0))
    worst = min(found.outcomes, key=lambda each: each.accuracy)
    name = _name(worst).replace(worst.attack.method, worst.attack.method.upper(), 1)
    return (
        f"{run}: {percent(found.clean, 2)} of the pictures as they are, {percent(worst.accuracy, 2)} under {name} "
        f"with epsilon {worst.attack.epsilon:g}."
    )


def attack_json(run: str, target: Trainer, found: Found, options: dict[str, Any]) -> str:
    from h2sim._version import __version__

    settings = target.settings
    data = {
        "schema": SCHEMA,
        "version": 1,
        "h2sim": __version__,
        "run": {"recipe": settings.recipe, "network": settings.network, "checkpoint_sha256": sha256_of_run(run)},
        "black_box_sha256": sha256_of_run(options["black_box"]) if options["black_box"] else None,
        "dataset": target.dataset.name,
        "timesteps": settings.timesteps,
        "samples": len(target.dataset.test.spread(options["test_samples"])),
        "seed": options["seed"],
        "clean_accuracy": found.clean,
        "attacks": [
            {"method": each.attack.method, "epsilon": each.attack.epsilon, "black_box": each.black_box,
             **({"steps": each.attack.steps, "step_size": each.attack.step} if each.attack.method != "fgsm" else {}),
             **({"random_start": each.attack.random_start} if each.attack.method == "pgd" else {}),
             "targeted": each.attack.targeted, "accuracy": each.accuracy, "mean_distance": each.distance,
             "attacked": each.attacked, "success": each.success, "null": each.null, "norms": each.norms}
            for each in found.outcomes
        ],
        "spike_attacks": [each.to_dict() for each in found.spikes],
        "masked_gradients": [{"sign": s.name, "values": list(s.values), "found": s.found} for s in found.signs],
    }  # fmt: skip
    return json.dumps(data, indent=1) + "\n"

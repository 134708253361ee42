"""The spike-compatible attack (chapter 5, algorithm 5) on any spiking network that gives gradients of its spikes.

An untargeted attack climbs the loss of the label, a targeted one descends that of another class. Every random number
belongs to a sample, so that what is found does not hang on which samples are attacked side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from h2sim.attacks import steps
from h2sim.errors import TrainingError, at
from h2sim.train.batches import rate_spikes

Told = Callable[[int, int], None]  # iterations so far, of all


class Attacked(Protocol):
    """A network as an attack needs it. spikes: (T, N, ...), 0.0 or 1.0; wanted: classes (N,)."""

    def scores(self, spikes: torch.Tensor) -> torch.Tensor:
        """The output of each class, (N, classes), with the network's own thresholds."""
        ...

    def gradient(self, spikes: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """dL/d spikes, L the samples' summed loss for the classes `wanted`; and the spikes of the penultimate layer of
        each sample, (N,), where they are known. The penultimate layer has the threshold of the attack."""
        ...


@dataclass(frozen=True)
class SpikeAttack:
    """How examples are made.

    iterations: at most. gamma: probability of a flip where the gradient is 0 everywhere. c, factor: of eq. 5.9, for
    pictures. epsilon: largest mean square from the sample's own, above which it failed; None: none. box: half the width
    of a box around a picture, which no iteration leaves; None: none. sampling: G2S draws what it keeps. fresh: new
    random spikes of an example that are tried once more. seed: of all random numbers.
    """

    iterations: int = 25
    gamma: float = 0.05
    c: float = 0.0
    factor: float = 2.0
    epsilon: float | None = None
    box: float | None = None
    sampling: bool = True
    fresh: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least, most in (("iterations", 1, 10_000), ("fresh", 0, 10_000)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise TrainingError(at("attack", name, f"a whole number from {least} to {most}", repr(value)))
        if type(self.seed) is not int:
            raise TrainingError(at("attack", "seed", "a whole number", repr(self.seed)))
        for name in ("gamma", "c", "epsilon", "box"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise TrainingError(at("attack", name, "a number from 0 to 1", value))
        if self.factor not in (1, 2):
            raise TrainingError(at("attack", "factor", "1 or 2", self.factor))


@dataclass(frozen=True)
class SpikeOutcome:
    """What an attack came to, by sample.

    attacked: those that the network took for their label before; the rest is left out of every rate. success: those of
    which an example was found. examples: pictures (N, ...), or spikes (T, N, ...), as they were in the end; norms:
    their distances (see steps.norms). iterations: until success, or the end. vanished: the first gradient was 0.
    flips: iterations that flipped at random. kept: share of the elements with a gradient that G2S kept, the mean over
    iterations; nan without any. fooled: share of an example's fresh spikes that are misread; nan of spike inputs.
    null: 1 where one of as many fresh spikes of the sample itself would have been taken for a success, else 0; nan of
    spike inputs, of which there is nothing to draw anew. penultimate: the spikes of that layer, and the samples that
    were attacked, in each iteration.
    """

    targeted: bool
    attacked: torch.Tensor
    success: torch.Tensor
    examples: torch.Tensor
    norms: dict[str, torch.Tensor]
    iterations: torch.Tensor
    vanished: torch.Tensor
    flips: torch.Tensor
    kept: torch.Tensor
    fooled: torch.Tensor
    null: torch.Tensor
    penultimate: list[tuple[int, int]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Samples that were attacked."""
        return int(self.attacked.sum())

    def rate(self, of: torch.Tensor) -> float:
        """The share of the samples that were attacked for which `of` (N,) is true; nan of none."""
        return float(of[self.attacked].double().mean()) if self.count else float("nan")

    @property
    def success_rate(self) -> float:
        """Share of the attacked samples of which an example was found."""
        return self.rate(self.success)

    @property
    def null_rate(self) -> float:
        """Share of which new random spikes of the sample itself would have done: to be read beside success_rate; nan of
        spike inputs."""
        return self.rate(self.null)

    @property
    def robust_rate(self) -> float:
        """Share of fresh spikes of the found examples that are misread; nan where none was found, or of spikes."""
        return float(self.fooled[self.success].double().mean()) if bool(self.success.any()) else float("nan")

    def mean_norm(self, name: str) -> float:
        """The mean of a norm over the found examples; nan of none."""
        return float(self.norms[name][self.success].double().mean()) if bool(self.success.any()) else float("nan")


class Draws:
    """Random numbers of samples, each from a generator of its own."""

    def __init__(self, seed: int, numbers: Sequence[int]) -> None:
        seeds = ((seed * 1_000_003 + number) % (1 << 63) for number in numbers)
        self._generators = [torch.Generator().manual_seed(each) for each in seeds]

    def uniform(self, samples: torch.Tensor, timesteps: int, shape: Sequence[int]) -> torch.Tensor:
        """(T, samples, ...), of the samples at these positions."""
        drawn = [torch.rand((timesteps, *shape), generator=self._generators[int(n)]) for n in samples]
        return torch.stack(drawn, 1).to(samples.device)

    def spikes(self, images: torch.Tensor, samples: torch.Tensor, timesteps: int) -> torch.Tensor:
        """Rate-coded spikes (T, samples, ...) of images (samples, ...)."""
        coded = [
            rate_spikes(image.unsqueeze(0), timesteps, self._generators[int(n)])[:, 0]
            for image, n in zip(images.cpu(), samples, strict=True)
        ]
        return torch.stack(coded, 1).to(images.device)


def spike_attack(
    network: Attacked,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    how: SpikeAttack,
    *,
    timesteps: int | None = None,
    targets: torch.Tensor | None = None,
    numbers: Sequence[int] | None = None,
    told: Told = lambda done, of: None,
) -> SpikeOutcome:
    """Attacks samples side by side.

    inputs: spikes (T, N, ...); or, with timesteps, pictures (N, ...), which are coded as random spikes anew in each
    iteration. targets: classes (N,) that the examples are to be taken for; None: any but the label. numbers: of the
    samples, which decide their random numbers [default: 0, 1, ...]. Raises TrainingError for inputs that do not fit.
    """
    return _Run(network, inputs, labels, how, timesteps, targets, numbers).to_the_end(told)


class _Run:
    """An attack on its way."""

    def __init__(
        self,
        network: Attacked,
        inputs: torch.Tensor,
        labels: torch.Tensor,
        how: SpikeAttack,
        timesteps: int | None,
        targets: torch.Tensor | None,
        numbers: Sequence[int] | None,
    ) -> None:
        self.network, self.how, self.labels, self.targets = network, how, labels, targets
        self.images = timesteps is not None
        _check(inputs, labels, targets, timesteps, how)
        self.timesteps = inputs.shape[0] if timesteps is None else timesteps
        self.n = len(labels)
        self.numbers = range(self.n) if numbers is None else numbers
        self.draws = Draws(how.seed, self.numbers)
        self.own, self.now = inputs, inputs.clone()
        self.everyone = torch.arange(self.n, device=inputs.device)
        self.spikes = self._coded(self.everyone)

    def _each(self, dtype: torch.dtype) -> torch.Tensor:
        """A zero for every sample."""
        return torch.zeros(self.n, dtype=dtype, device=self.everyone.device)

    def _coded(self, samples: torch.Tensor) -> torch.Tensor:
        """Spikes of the samples as they are now, (T, samples, ...)."""
        if not self.images:
            return self.now[:, samples]
        return self.draws.spikes(self.now[samples], samples, self.timesteps)

    def _hit(self, spikes: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        """Whether spikes are an example: another class than the label, or the target, and no other is as large."""
        scores = self.network.scores(spikes)
        best, found = scores.max(1)
        alone = (scores == best[:, None]).sum(1) == 1
        wanted = found != self.labels[samples] if self.targets is None else found == self.targets[samples]
        return wanted & alone

    @torch.no_grad()
    def to_the_end(self, told: Told) -> SpikeOutcome:
        how = self.how
        scores = self.network.scores(self.spikes)
        _check_classes(scores.shape[1], self.labels, self.targets)
        right = scores.argmax(1) == self.labels
        attacked = right if self.targets is None else right & (self.labels != self.targets)
        success, vanished, active = self._each(torch.bool), self._each(torch.bool), attacked.clone()
        flips, taken, drawn = self._each(torch.int64), self._each(torch.int64), self._each(torch.int64)
        kept, penultimate = self._each(torch.float64), list[tuple[int, int]]()
        null = self._null(attacked)
        for k in range(how.iterations):
            samples = self.everyone[active]
            if not len(samples):
                break
            spikes = self.spikes[:, samples]
            gradient, of_layer = self._gradient(spikes, samples)
            if of_layer is not None:
                penultimate.append((int(of_layer.sum()), len(of_layer)))
            silent = steps.largest_of(gradient.abs()).flatten() == 0
            uniform = self.draws.uniform(samples, self.timesteps, spikes.shape[2:])
            d = steps.step(gradient, spikes, how.gamma, uniform, sampling=how.sampling)
            flips[samples] += silent.long()
            if k == 0:
                vanished[samples] = silent
            self._count_kept(gradient, uniform, samples[~silent], ~silent, kept, drawn)
            self._move(d, samples)
            taken[samples] = k + 1
            far = steps.norms(self._whole(self.now, samples), self._whole(self.own, samples))["perturbation"]
            inside = torch.ones_like(silent) if how.epsilon is None else far <= how.epsilon
            found = self._hit(self.spikes[:, samples], samples) & inside
            success[samples[found]] = True
            active[samples[found | ~inside]] = False
            told(k + 1, how.iterations)
        norms = steps.norms(self._whole(self.now, self.everyone), self._whole(self.own, self.everyone))
        share = torch.where(drawn > 0, kept / drawn.clamp(min=1), torch.full_like(kept, float("nan")))
        fooled = self._fooled(success)
        return SpikeOutcome(
            self.targets is not None, attacked, success, self.now, norms, taken, vanished, flips, share, fooled, null,
            penultimate,
        )  # fmt: skip

    def _gradient(self, spikes: torch.Tensor, samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The gradient with the sign of the attack (eq. 5.4)."""
        wanted = self.labels if self.targets is None else self.targets
        with torch.enable_grad():
            gradient, of_layer = self.network.gradient(spikes, wanted[samples])
        if not bool(torch.isfinite(gradient).all()):
            raise TrainingError(at("attack", "gradient of the spikes", "finite numbers", "NaN or Inf"))
        return (gradient if self.targets is None else -gradient), of_layer

    def _count_kept(
        self,
        gradient: torch.Tensor,
        uniform: torch.Tensor,
        samples: torch.Tensor,
        among: torch.Tensor,
        kept: torch.Tensor,
        drawn: torch.Tensor,
    ) -> None:
        """Adds the share of elements with a gradient that this iteration keeps."""
        if not len(samples):
            return
        part = gradient[:, among]
        signs = steps.sampled(part, uniform[:, among]) if self.how.sampling else part.sign()
        axes = tuple(axis for axis in range(part.dim()) if axis != 1)
        kept[samples] += ((signs != 0).sum(axes) / (part != 0).sum(axes)).double()
        drawn[samples] += 1

    def _move(self, d: torch.Tensor, samples: torch.Tensor) -> None:
        """The samples after d: pictures and new spikes of them, or spikes."""
        if not self.images:
            self.now[:, samples] += d
            self.spikes = self.now
            return
        own = self.own[samples]
        image = steps.moved(self.now[samples], own, d, self.how.c, self.how.factor)
        if self.how.box is not None:
            image = (own + (image - own).clamp(-self.how.box, self.how.box)).clamp(0, 1)
        self.now[samples] = image
        self.spikes[:, samples] = self._coded(samples)

    def _whole(self, values: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        """What a sample's distance is taken of, (samples, ...): all its pixels, or all its spikes."""
        return values[samples] if self.images else values[:, samples].transpose(0, 1)

    def _null(self, attacked: torch.Tensor) -> torch.Tensor:
        """The null control: as many fresh spikes of the sample itself as there are iterations."""
        hit = self._each(torch.bool)
        if not self.images:
            return torch.full_like(hit, float("nan"), dtype=torch.float64)
        if bool(attacked.any()):
            draws = Draws(self.how.seed + 1, self.numbers)
            samples = self.everyone[attacked]
            for _ in range(self.how.iterations):
                hit[samples] |= self._hit(draws.spikes(self.own[samples], samples, self.timesteps), samples)
        return hit.double()

    def _fooled(self, success: torch.Tensor) -> torch.Tensor:
        """Share of fresh spikes of each found example that are an example, too."""
        share = torch.full_like(success, float("nan"), dtype=torch.float64)
        samples = self.everyone[success]
        if self.images and len(samples) and self.how.fresh:
            hits = torch.zeros_like(samples, dtype=torch.float64)
            for _ in range(self.how.fresh):
                hits += self._hit(self._coded(samples), samples)
            share[samples] = hits / self.how.fresh
        return share


def _check(
    inputs: torch.Tensor,
    labels: torch.Tensor,
    targets: torch.Tensor | None,
    timesteps: int | None,
    how: SpikeAttack,
) -> None:
    """Raises TrainingError for inputs, classes or settings that do not fit each other."""
    images = timesteps is not None
    n = inputs.shape[0 if images else 1] if inputs.dim() > 1 else 0
    if n == 0 or inputs.shape[0] == 0:
        wanted = "pictures (N, ...)" if images else "spikes (T, N, ...)"
        raise TrainingError(at("attack", "inputs", wanted, f"shape {list(inputs.shape)}"))
    if images and (type(timesteps) is not int or timesteps < 1):
        raise TrainingError(at("attack", "timesteps", "a whole number of at least 1", repr(timesteps)))
    if not inputs.is_floating_point():
        raise TrainingError(at("attack", "inputs", "floating-point numbers", inputs.dtype))
    within = (inputs >= 0) & (inputs <= 1) if images else (inputs == 0) | (inputs == 1)
    if not bool(within.all()):
        raise TrainingError(at("attack", "inputs", "pixels from 0 to 1" if images else "spikes, 0 or 1", "others"))
    for name, classes in (("labels", labels), ("targets", targets)):
        if classes is not None and classes.shape != (n,):
            raise TrainingError(at("attack", name, f"shape {[n]}", list(classes.shape)))
        if classes is not None and classes.dtype != torch.int64:
            raise TrainingError(at("attack", name, "classes of torch.int64", classes.dtype))
    for name, value in (("c", how.c or None), ("box", how.box)):
        if not images and value is not None:
            raise TrainingError(at("attack", name, "none: spikes are attacked, and pictures alone have it", value))


def _check_classes(classes: int, labels: torch.Tensor, targets: torch.Tensor | None) -> None:
    for name, given in (("labels", labels), ("targets", targets)):
        if given is not None and not bool(((given >= 0) & (given < classes)).all()):
            wanted = f"classes from 0 to {classes - 1}, of which the network gives scores"
            raise TrainingError(at("attack", name, wanted, f"{int(given.min())} to {int(given.max())}"))

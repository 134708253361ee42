"""Networks as the spike-compatible attack needs them: h2sim's own, and any torch model of spikes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from h2sim.errors import TrainingError, at
from h2sim.export.record import LayerRecord
from h2sim.train.lif import Neuron
from h2sim.train.trainer import Trainer

THRESHOLDS = ("threshold", "v_threshold", "spike_threshold", "v_th")  # of neurons of the libraries
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class _One(dict[str, LayerRecord]):
    """Records of some layers alone."""

    def __missing__(self, name: str) -> Any:
        return None


class OwnNetwork:
    """A network that h2sim trained. threshold: of the penultimate layer as examples are made; its surrogate stays where
    it is (section 5.3.2); None: its own.

    Raises TrainingError for one that reads no spikes, and for a threshold that cannot be set.
    """

    def __init__(self, run: Trainer, threshold: float | None = None) -> None:
        self._run, self._network = run, run.network
        if run.network.reads_analog or run.network.most_count is not None:
            got = "one that encodes pixels" if run.network.reads_analog else "counts"
            raise TrainingError(at("attack", "network", "one that reads spikes", got))
        spiking = [name for name, layer in self._network.described.items() if layer.spiking]
        last = self._network.layers[-1]["name"]
        before = [name for name in spiking if name != last]
        self.penultimate = before[-1] if before else None
        self._tuned = None if threshold is None else self._tuned_neuron(threshold)

    def _tuned_neuron(self, threshold: float) -> Neuron:
        if self.penultimate is None:
            raise TrainingError(at("attack", "penultimate threshold", "a spiking layer before the last one", "none"))
        neuron = self._network.neurons[self.penultimate]
        if neuron.surrogate != "rectangle" or self.penultimate in self._network.thresholds:
            got = "one that moves with the threshold"
            raise TrainingError(at("attack", "penultimate threshold", "a surrogate that stays where it is", got))
        if not threshold >= neuron.threshold:
            raise TrainingError(at("attack", "penultimate threshold", f"at least {neuron.threshold:g}", threshold))
        return replace(neuron, threshold=threshold)

    @property
    def tuned(self) -> dict[str, Neuron]:
        """The neuron of the attack, by the name of its layer; nothing where that has its own."""
        return {} if self._tuned is None or self.penultimate is None else {self.penultimate: self._tuned}

    @contextmanager
    def evaluated(self, *, tuned: bool) -> Iterator[None]:
        """A block in which the network is in evaluation mode, and with `tuned` has the threshold of the attack."""
        network, neurons = self._network, dict(self._network.neurons)
        was_training = network.training
        network.eval()
        network.neurons.update(self.tuned if tuned else {})
        try:
            yield
        finally:
            network.train(was_training)
            network.neurons.update(neurons)

    @torch.no_grad()
    def scores(self, spikes: torch.Tensor) -> torch.Tensor:
        """See Attacked: the mean over time."""
        with self.evaluated(tuned=False):
            output: torch.Tensor = self._network(spikes, spikes.shape[0]).mean(0)
        return output

    def gradient(self, spikes: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See Attacked: of the run's own loss."""
        inputs = spikes.detach().clone().requires_grad_()
        records = _One()
        if self.penultimate is not None:
            records[self.penultimate] = LayerRecord(values=False)
        with self.evaluated(tuned=True):
            objective = self._run.settings.objective
            output = self._network(inputs, spikes.shape[0], records)
            loss = objective.value(output, wanted, 1)  # the sum over samples
            (scaled,) = torch.autograd.grad(loss * objective.loss_scale, inputs)
            gradient = scaled / objective.loss_scale
        packed = records[self.penultimate].spikes if self.penultimate is not None else None
        if packed is None:
            return gradient, None
        bits = torch.from_numpy(packed.astype("int64"))
        counts = sum(((bits >> bit) & 1).sum((0, 2)) for bit in range(8))
        assert isinstance(counts, torch.Tensor)
        return gradient, counts


class Model:
    """A torch model of one's own: model(spikes) gives the scores of each class, (N, classes), or (T, N, classes), of
    which the mean over time is taken.

    loss: ce, mse, or a function of scores and classes that returns the samples' sum. reset: puts neuron states back,
    before every run. penultimate: the name of the layer whose spikes are counted; threshold: what its threshold is set
    to as examples are made. The surrogates of libraries are centred on the threshold and move with it.
    """

    def __init__(
        self,
        model: Callable[[torch.Tensor], torch.Tensor],
        *,
        loss: str | Loss = "ce",
        reset: Callable[[], None] | None = None,
        penultimate: str | None = None,
        threshold: float | None = None,
    ) -> None:
        self._model, self._reset = model, reset or _resetting(model)
        self._loss = _losses(loss)
        self._module = None if penultimate is None else _module(model, penultimate)
        self._attribute = None if threshold is None else _threshold_of(self._module, penultimate)
        self._threshold = threshold

    def scores(self, spikes: torch.Tensor) -> torch.Tensor:
        """See Attacked."""
        with torch.no_grad():
            return self._run(spikes)

    def gradient(self, spikes: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See Attacked."""
        inputs = spikes.detach().clone().requires_grad_()
        sent: list[torch.Tensor] = []

        def keep(module: Any, given: Any, output: Any) -> None:
            sent.append((output[0] if isinstance(output, tuple) else output).detach())

        handle = None if self._module is None else self._module.register_forward_hook(keep)
        try:
            with self._tuned():
                loss = self._loss(self._run(inputs), wanted)
                if loss.dim() != 0:
                    raise TrainingError(at("attack", "loss", "the samples' sum, one number", f"shape {[*loss.shape]}"))
                found = torch.autograd.grad(loss, inputs, allow_unused=True)[0] if loss.requires_grad else None
        finally:
            if handle is not None:
                handle.remove()
        if found is None:
            raise TrainingError(at("attack", "model", "a loss that depends on the spikes", "no gradient of them"))
        return found, _spikes_of(sent, spikes.shape[1])

    def _run(self, spikes: torch.Tensor) -> torch.Tensor:
        self._reset()
        output = self._model(spikes)
        output = output[0] if isinstance(output, tuple) else output
        if not isinstance(output, torch.Tensor) or output.dim() not in (2, 3) or output.shape[-2] != spikes.shape[1]:
            got = list(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
            wanted = "scores (N, classes) or (T, N, classes)"
            raise TrainingError(at("attack", "model", wanted, f"shape {got}" if isinstance(got, list) else got))
        return output.mean(0) if output.dim() == 3 else output

    @contextmanager
    def _tuned(self) -> Iterator[None]:
        if self._attribute is None or self._module is None:
            yield
            return
        own, value = getattr(self._module, self._attribute), float(self._threshold or 0.0)
        new: Any = torch.full_like(own, value) if isinstance(own, torch.Tensor) else value
        if isinstance(own, nn.Parameter):
            new = nn.Parameter(new, own.requires_grad)
        setattr(self._module, self._attribute, new)
        try:
            yield
        finally:
            setattr(self._module, self._attribute, own)


def _spikes_of(sent: list[torch.Tensor], samples: int) -> torch.Tensor | None:
    """Spikes of each sample, (N,), in what a layer sent: (T, N, ...) at once, or (N, ...) at each timestep."""
    if not sent:
        return None
    if len(sent) == 1 and sent[0].dim() > 1 and sent[0].shape[1] == samples:
        return (sent[0] != 0).transpose(0, 1).flatten(1).sum(1)
    return torch.stack([(each != 0).flatten(1).sum(1) for each in sent]).sum(0)


def _losses(loss: str | Loss) -> Loss:
    if callable(loss):
        return loss
    if loss == "ce":
        return lambda scores, wanted: functional.cross_entropy(scores, wanted, reduction="sum")
    if loss == "mse":
        return lambda scores, wanted: (
            (scores - functional.one_hot(wanted, scores.shape[1]).to(scores)).square().mean(1).sum()
        )
    raise TrainingError(at("attack", "loss", "ce, mse or a function", repr(loss)))


def _resetting(model: Any) -> Callable[[], None]:
    """The reset of the libraries' neurons in a module; nothing for any other callable."""
    if not isinstance(model, nn.Module):
        return lambda: None
    from h2sim.export.neurons import reset_states

    return lambda: reset_states(model)


def _module(model: Any, name: str) -> nn.Module:
    found: nn.Module | None = dict(model.named_modules()).get(name) if isinstance(model, nn.Module) else None
    if found is None:
        there = ", ".join(each for each, _ in model.named_modules() if each) if isinstance(model, nn.Module) else "none"
        raise TrainingError(at("attack", "penultimate", f"a module of the model ({there})", repr(name)))
    return found


def _threshold_of(module: nn.Module | None, name: str | None) -> str:
    if module is None:
        raise TrainingError(at("attack", "penultimate", "the name of the layer whose threshold is set", "none"))
    for attribute in THRESHOLDS:
        if isinstance(getattr(module, attribute, None), (int, float, torch.Tensor)):
            return attribute
    wanted = f"a module with one of {', '.join(THRESHOLDS)}"
    raise TrainingError(at("attack", "penultimate", wanted, f"{name}, a {type(module).__name__}"))

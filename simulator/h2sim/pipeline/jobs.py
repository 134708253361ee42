"""Jobs of an engine's work: what every job of H2Learn is made of."""

from __future__ import annotations

import numpy as np

from h2sim.activity import NO_ACTIONS, Actions, Engine, JobKey, Phase
from h2sim.arch.schema import Buffer
from h2sim.engines.work import EngineWork
from h2sim.memory.job import Job
from h2sim.memory.traffic import Traffic
from h2sim.trace import Layer

Named = tuple[str, Buffer]  # a buffer with its name


def job_of(
    layer: Layer,
    phase: Phase,
    engine: Engine,
    work: EngineWork,
    traffic: Traffic,
    after: tuple[JobKey, ...],
    *,
    fill_cycles: int,
    acc: Actions = NO_ACTIONS,
    neuron: Actions = NO_ACTIONS,
) -> Job:
    """The job of one layer in one phase. acc: events beside those of the work; neuron: those of Soma or Grad."""
    return Job(
        layer=layer.name,
        phase=phase,
        engine=engine,
        side="forward" if phase == "forward" else "backward",
        cycles=work.iteration_cycles,
        fill_cycles=fill_cycles,
        traffic=traffic,
        pe_array=work.pe_array,
        acc=work.acc + acc,
        neuron=neuron,
        useful_operations=work.useful_operations,
        peak_operations=work.peak_operations,
        after=after,
    )


def no_work(tiles: int) -> EngineWork:
    """That of a job without PE cycles, which streams so many tiles."""
    return EngineWork(
        iteration_cycles=np.zeros((1, tiles, 1), np.int64),
        pe_array=NO_ACTIONS,
        acc=NO_ACTIONS,
        useful_operations=0,
        peak_operations=0,
    )

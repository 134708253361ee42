"""Which job completes which gradient: held to a backward pass that hands parts on one by one."""

from __future__ import annotations

from collections import Counter

import pytest

from h2sim.trace import parse_meta
from h2sim.trace.gradients import Gradients
from tests.helpers.operands import draw


def parts_of(meta, gradients, job):
    """What a job adds to each map when it runs, found by walking down from it: 1 for each map that it reaches."""
    reached, waiting = Counter(), list(dict.fromkeys(meta.layer(job).inputs))
    while waiting:
        name = waiting.pop()
        if name == "input" or reached[name]:
            continue
        reached[name] += 1
        below = meta.layer(name)
        if below.is_map and gradients.jobs_of(name)[-1] == job:
            waiting += below.inputs
    return reached


@pytest.mark.parametrize("seed", range(150))
def test_every_trained_map_is_completed_once_by_the_last_job_that_reaches_it(seed):
    meta = parse_meta(draw(seed, steps=9).meta(), "random")
    gradients = Gradients(meta)
    left, complete = Counter(), set()
    for layer in reversed(meta.layers):
        if layer.is_map:
            continue
        reached = {n for n in parts_of(meta, gradients, layer.name) if gradients.trained(n)}
        shares = gradients.shares(layer.name)
        assert {share.name for share in shares} == reached
        for share in shares:
            assert share.name not in complete
            if share.complete:
                assert left[share.name] == share.others
                complete.add(share.name)
            else:
                left[share.name] += 1
    read = {name for layer in meta.layers for name in layer.inputs}
    assert complete == {n for n in read if n != "input" and gradients.trained(n) and gradients.jobs_of(n)}
    assert complete

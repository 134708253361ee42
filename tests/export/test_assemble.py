"""What `assemble` does with obstacles that it is given."""

from __future__ import annotations

from h2sim.export.obstacles import Obstacles
from h2sim.export.structure import INPUT, Node, assemble


def node(name, role, source):
    return Node(name=name, role=role, inputs=(source,), in_shape=(4,), out_shape=(4,))


def test_obstacles_are_put_with_those_that_are_given():
    chain = {"n": node("n", "neuron", INPUT), "bn": node("bn", "norm", "n"), "fc": node("fc", "linear", "bn")}
    found = Obstacles()
    assert assemble(chain, False, found) == ()
    assert [obstacle.module for obstacle in found.found] == ["bn"]

"""functools.cached_property without its lock, as it is from Python 3.12 on.

The lock of 3.11 is one for all objects of a class: a process forked while another thread holds it waits for ever.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

__all__ = ["cached_property"]

if TYPE_CHECKING:
    from functools import cached_property
else:

    class cached_property(functools.cached_property):
        """A value computed once and kept in the object. Two threads may compute it at once; the first one stays."""

        def __get__(self, instance, owner=None):
            """The kept value; the descriptor itself on a class."""
            if instance is None:
                return self
            kept = instance.__dict__
            if self.attrname not in kept:
                kept.setdefault(self.attrname, self.func(instance))
            return kept[self.attrname]

"""What a kind of input file is to the fuzzer: whole files to begin with, ways to change them, and a reader to try."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.mutate import Rng

Files = Mapping[str, bytes]  # content by path in a folder
Change = Callable[[Rng, bytes], bytes]


class Wrong(Exception):
    """A reader took a file and gave an answer that is not that of the plain reference."""


@dataclass(frozen=True)
class Kind:
    """bases: whole inputs, each a folder of files, of which `changed` may be mutated (all, where it is empty).

    change: a mutant of one file's bytes, by its name. read: reads what is in the folder through the product, and checks
    the answer; it raises H2SimError for a refusal and Wrong for a wrong answer. argv: a command line that reads the
    folder too. share: of a campaign's inputs. names_file: whether a refusal must name the folder.
    """

    name: str
    bases: Callable[[], Sequence[Files]]
    change: Callable[[Rng, str, bytes], bytes]
    read: Callable[[Path], None]
    argv: Callable[[Path], Sequence[str]] | None = None
    share: float = 1.0
    changed: frozenset[str] = field(default_factory=frozenset)
    names_file: bool = True


def always(change: Change) -> Callable[[Rng, str, bytes], bytes]:
    """The same way to change each file of a kind."""
    return lambda rng, _, data: change(rng, data)


def expect(condition: bool, what: str) -> None:
    """Raises Wrong unless the condition holds."""
    if not condition:
        raise Wrong(what)

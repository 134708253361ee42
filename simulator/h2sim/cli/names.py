"""Arguments that name a shipped file or are a path: what a shell completes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from click import Context, Parameter
from click.shell_completion import CompletionItem
from click.types import StringParamType

from h2sim.io import library


class NamesType(StringParamType):
    """A name, or a file of one's own; a shell completes both. Its value is the text as it was typed.

    kinds: of shipped files, whose names are offered. more: other names; it is called only when a shell asks.
    files: whether a path does as well.
    """

    def __init__(self, *kinds: library.Kind, more: Callable[[], Iterable[str]] = tuple, files: bool = True) -> None:
        self.kinds, self.more, self.files = kinds, more, files

    def names(self) -> list[str]:
        """All names that are offered, sorted."""
        return sorted({*self.more(), *(name for kind in self.kinds for name in library.names(kind))})

    def shell_complete(self, ctx: Context, param: Parameter, incomplete: str) -> list[CompletionItem]:
        """Files, then the names that begin as typed: bash forgets the names that stand before `file`."""
        found = [CompletionItem(name) for name in self.names() if name.startswith(incomplete)]
        return [*([CompletionItem(incomplete, type="file")] if self.files else []), *found]


def _baselines() -> Iterable[str]:
    from h2sim.rivals.registry import BASELINES

    return BASELINES


def _published_and_baselines() -> Iterable[str]:
    from h2sim.compare.published import published_rows

    return [*_baselines(), *(row.name for row in published_rows())]


def _machines() -> Iterable[str]:
    from h2sim.rivals.registry import H2LEARN, kinds

    return H2LEARN, *kinds()


def _data_sets() -> Iterable[str]:
    from h2sim import datasets

    return datasets.names()


def _recipes() -> Iterable[str]:
    from h2sim.train.registry import names

    return names()


def _sram_parts() -> Iterable[str]:
    from h2sim.energy.load import part_names

    return part_names()


def _words() -> Iterable[str]:
    from h2sim.report.explain import every_name

    return every_name()


FILE = NamesType()
WORD = NamesType(more=_words, files=False)
ARCH, TRACE, TABLE = NamesType("arch"), NamesType("trace"), NamesType("energy table")
NETWORK, GPU_TRACE = NamesType("network"), NamesType("GPU trace")
SRAM_PART = NamesType(more=_sram_parts)
DATA_SET = NamesType(more=_data_sets, files=False)
RECIPE = NamesType(more=_recipes, files=False)
MACHINE_KIND = NamesType(more=_machines, files=False)
RIVAL = NamesType(more=_baselines, files=False)
BASELINE = NamesType(more=_published_and_baselines, files=False)

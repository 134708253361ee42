"""Arguments that name a shipped file or are a path: what a shell completes of them."""

from __future__ import annotations

from click import Context, Parameter, ParamType
from click.shell_completion import CompletionItem

from h2sim.io import library


class NamesType(ParamType):
    """The name of a shipped file of a kind, or a file of one's own; completed from both.

    more: other names that do as well, such as data sets.
    """

    name = "name|file"

    def __init__(self, kind: library.Kind, more: tuple[str, ...] = ()) -> None:
        self.kind, self.more = kind, more

    def shell_complete(self, ctx: Context, param: Parameter, incomplete: str) -> list[CompletionItem]:
        """Shipped names that begin as typed, then files."""
        known = sorted({*library.names(self.kind), *self.more})
        found = [CompletionItem(name) for name in known if name.startswith(incomplete)]
        return [*found, CompletionItem(incomplete, type="file")]


ARCH, TRACE, TABLE = NamesType("arch"), NamesType("trace"), NamesType("energy table")
NETWORK, GPU_TRACE = NamesType("network"), NamesType("GPU trace")

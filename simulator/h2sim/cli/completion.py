"""`h2sim completion`: the script by which a shell completes h2sim's commands, options and names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from h2sim.cli.support import fail
from h2sim.errors import at

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script by which SHELL completes commands, options and the names of machines, traces and tables.

    \b
    Examples:
      eval "$(h2sim completion bash)"
      eval "$(h2sim completion zsh)"
      h2sim completion fish | source
    """
    kind = get_completion_class(shell)
    if kind is None:
        fail(at("completion", "shell", f"one of {', '.join(SHELLS)}", shell))
    script = kind(ctx.find_root().command, {}, "h2sim", "_H2SIM_COMPLETE")
    click.echo(_source(script))


def _source(script: object) -> str:
    """The script's text, without asking the shell for its version, which click's own `source` of bash does."""
    from click.shell_completion import ShellComplete

    assert isinstance(script, ShellComplete)
    return ShellComplete.source(script)

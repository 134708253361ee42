"""Bounds for a child process that reads hostile input: memory, and a time that only a hang reaches."""

from __future__ import annotations

ADDRESS_SPACE = 4 << 30
PATIENCE_S = 600


def limited() -> None:
    """Bounds this process's address space; for subprocess's preexec_fn."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))

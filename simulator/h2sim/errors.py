"""The errors that h2sim raises on purpose; the command line turns each into one line and exit status 2."""

from __future__ import annotations

MOST_IN_LINE = 2000  # characters of a line; a file may hold thousands of names
MOST_LINES = 100  # of one error; a file may hold as many faults as fields


class H2SimError(Exception):
    """A wrong input or a wrong use. Its text is for the user.

    Each argument is one line, a fault each. What a file put into a line cannot break it in two: see `printable`.
    """

    @property
    def lines(self) -> tuple[str, ...]:
        """The faults, a line each, as they are printed; of very many the first, and how many more there are."""
        shown = tuple(_cut(printable(str(line))) for line in self.args[:MOST_LINES])
        more = len(self.args) - MOST_LINES
        return shown if more <= 0 else (*shown, f"and {more:,} more faults")

    def __str__(self) -> str:
        return "\n".join(self.lines)


class ArchError(H2SimError):
    """An arch file is missing, unreadable or describes no machine that can be built."""


class TraceError(H2SimError):
    """A workload trace is missing, damaged, or does not fit the format or itself."""


class EnergyTableError(H2SimError):
    """An energy table is missing, unreadable or lacks an entry that the machine needs."""


class NetworkError(H2SimError):
    """A network description cannot be parsed or its layers do not chain."""


class ExportError(H2SimError):
    """A model cannot be written as a trace: a module the machine does not have, or values that do not fit."""


class DatasetError(H2SimError):
    """A data set's files are missing, damaged, or do not fit what was asked of them."""


class OutputError(H2SimError):
    """A result cannot be written where the user asked."""


class TrainingError(H2SimError):
    """A training run cannot start, go on or be resumed as asked."""


class BaselineError(H2SimError):
    """A baseline's file is wrong, or a workload cannot run on that machine."""


class GpuTraceError(H2SimError):
    """A GPU trace or profile is missing, damaged or cannot be mapped, or there is no GPU to record on."""


class ComparisonError(H2SimError):
    """A result that is to be compared is missing, damaged, or of another workload."""


class ReproductionError(H2SimError):
    """The claims or assumptions of a reproduction do not fit together."""


class SweepError(H2SimError):
    """A sweep's spec, folder or search does not fit together."""


class ToolError(H2SimError):
    """A tool that h2sim calls is missing or failed: Verilator and its compiler, Yosys."""


def at(where: str, field: str, expected: str, got: object) -> str:
    """The text of an error: `file: field: expected ...; got ...`."""
    return f"{where}: {field}: expected {expected}; got {got}"


def printable(text: str) -> str:
    """The text as one line that any terminal shows as it is.

    A character that moves the cursor, starts a new line, turns the direction of writing or has no width is written as
    Python writes it, such as \\x1b or \\u202e. So is half of a surrogate pair, which no file can hold.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _cut(line: str) -> str:
    """The line, or its beginning and its end where it is too long to be read."""
    if len(line) <= MOST_IN_LINE:
        return line
    return f"{line[: MOST_IN_LINE * 2 // 3]} ... {line[-MOST_IN_LINE // 3 :]}"

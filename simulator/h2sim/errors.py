"""The errors that h2sim raises on purpose; the command line turns each into one line and exit status 2."""

from __future__ import annotations


class H2SimError(Exception):
    """A wrong input or a wrong use. Its text is for the user: one line, or one line per fault."""


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


class ToolError(H2SimError):
    """A tool that h2sim calls is missing or failed: Verilator and its compiler, Yosys."""


def at(where: str, field: str, expected: str, got: object) -> str:
    """The text of an error: `file: field: expected ...; got ...`."""
    return f"{where}: {field}: expected {expected}; got {got}"

"""The machine: arch files and their schema."""

from h2sim.arch.load import arch_sha256, load_arch, parse_arch, with_mode
from h2sim.arch.peak import peak_flops
from h2sim.arch.schema import MODES, Arch, Mode

__all__ = ["MODES", "Arch", "Mode", "arch_sha256", "load_arch", "parse_arch", "peak_flops", "with_mode"]

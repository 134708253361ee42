"""How Sphinx makes the site: `sphinx-build -W --keep-going -n docs site` (extra `h2sim[docs]`)."""

from __future__ import annotations

import sys
from pathlib import Path

import h2sim

sys.path.insert(0, str(Path(__file__).parent))

project = "h2sim"
version = release = h2sim.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx_click", "from_sources"]  # the last one is beside this file
exclude_patterns = ["pictures/*.py"]

# Pages are MyST. Tutorials hold code cells; every build runs them, each in an empty folder of its own.
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300  # seconds a cell
nb_output_stderr = "remove"  # progress and libraries' remarks, which hold times

default_role = "literal"  # docstrings have names between single backticks

# Names of types are not links: most are numpy's and torch's, whose sites no build may ask for.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True

# The site asks for nothing that it does not hold, and says nothing of the day or the machine that made it.
html_theme = "furo"
html_title = f"h2sim {version}"
html_static_path = ["pictures"]
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False

"""How Sphinx builds these pages; ``make docs`` does it offline, and every warning is an error."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for the extension holdfast_pages, which lies beside this file

project = "holdfast"
author = "the holdfast authors"
release = metadata.version("holdfast")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "holdfast_pages"]
exclude_patterns = ["_build"]

smartquotes = False  # two dashes are an option, not a dash

html_theme = "furo"
html_title = f"holdfast {release}"
html_show_copyright = False

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.strikethrough"]

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"show-inheritance": False}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
napoleon_numpy_docstring = False
add_module_names = False

# Names of other libraries are not looked up, which would need the network. Those of holdfast have to lead somewhere, but for these.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!holdfast\.).*"),
    ("py:class", r"holdfast\.catalog\.registry\.Cls|holdfast\.run\.directory\.Model"),  # type variables
    # Named tuples that formulas return, from the modules behind functional.py; docstrings say what they hold.
    ("py:class", r"holdfast\.(losses|regularizers)\.(?!functional\.)\w+\.\w+"),
]

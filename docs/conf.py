"""How Sphinx makes the documentation's site of the pages in this folder: `make site`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import acredssp

project = "acredssp"
author = "The acredssp contributors"
project_copyright = "2026, the acredssp contributors"
version = release = acredssp.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.graphviz", "_site.extension"]
exclude_patterns = ["_site", "requirements"]
source_suffix = {".md": "markdown"}

myst_enable_extensions = ["attrs_inline"]
myst_heading_anchors = 4

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "groupwise"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_use_ivar = True
python_use_unqualified_type_names = True
maximum_signature_line_length = 70  # a longer one has a line for each parameter, also on a telephone
python_display_short_literal_types = True
default_role = "code"
smartquotes_action = "qe"  # quotes and ellipses; a dash is made of no option such as --pin

nitpicky = True
suppress_warnings = ["misc.highlighting_failure"]  # fail2ban's file has more in it than an ini file
graphviz_output_format = "svg"

html_theme = "furo"
html_title = f"acredssp {release}"
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
html_static_path = ["_site/static"]
html_css_files = ["tables.css"]

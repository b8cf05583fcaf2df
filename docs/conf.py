"""Sphinx configuration: pages, notebooks and the reference of the public names.

Build with ``uv run --group docs sphinx-build -W -c docs . site``. The source folder is the root of
the repository, so that links between docs/, analyses/, figures/ and benchmarks/ hold.
"""

from __future__ import annotations

from pathlib import Path

import gradscope

project = "gradscope"
author = "The gradscope developers"
copyright = author
version = release = gradscope.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_copybutton",
]
root_doc = "docs/index"
include_patterns = [
    "docs/*.md",
    "docs/howto/*.md",
    "docs/notebooks/*.ipynb",
    "docs/generated/*",
    "analyses/README.md",
    "figures/README.md",
    "benchmarks/**.md",
    "data/README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
]
templates_path = [str(Path(__file__).parent / "_templates")]

nb_execution_mode = "off"  # notebooks show the outputs they were committed with
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc states types with shapes and units
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
default_role = "py:obj"

html_theme = "pydata_sphinx_theme"
html_title = f"gradscope {release}"
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "header_links_before_dropdown": 6,
}
html_sidebars = {"docs/gallery": []}

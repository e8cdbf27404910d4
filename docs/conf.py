"""Sphinx: the documentation of torchmotif. `nox -s docs` builds it into docs/_build/html."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "torchmotif"
author = "The torchmotif developers"
project_copyright = author
release = version_of("torchmotif")
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "mathml",  # formulas without a script from elsewhere
    "pages",  # reference and notebooks, made from what is in the repository
]
exclude_patterns = ["_build"]
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # decision records start where they like

autosummary_generate = False
autodoc_typehints = "none"  # the docstrings say shapes, which annotations cannot
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_favicon = "_static/logo.svg"
html_title = f"torchmotif {release}"
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["torchmotif.css"]
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "torchmotif", "image_light": "_static/logo.svg", "image_dark": "_static/logo.svg"},
    "header_links_before_dropdown": 7,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "show_prev_next": True,
}
html_sidebars = {"tutorial": [], "gallery": [], "faq": [], "motif-learn": []}

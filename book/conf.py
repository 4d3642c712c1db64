"""Sphinx's configuration of the book. `python -m tools.book` assembles the pages in
build/book/source and runs Sphinx on them.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from diffusion_course import __version__  # noqa: E402
from tools.book_lessons import equations  # noqa: E402
from tools.book_sphinx import mathjax_file  # noqa: E402

project = "Diffusion models"
author = "diffusion_course contributors"
copyright = "diffusion_course contributors. Text and figures: CC BY 4.0. Code: MIT"
release = version = __version__
language = "en"  # en_GB's catalogue breaks the line that says how many pages a search found

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_design",
    "sphinx_copybutton",
    "tools.book_sphinx",
]
exclude_patterns = ["downloads"]
nitpicky = True
# Classes of other packages have no page here.
nitpick_ignore_regex = [(r"py:.*", r"(?!diffusion_course\.).*")]
course_equations = equations()

nb_execution_mode = "off"  # the committed outputs are shown
nb_render_markdown_format = "myst"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

default_role = "literal"
add_module_names = False
python_maximum_signature_line_length = 70
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = False
toc_object_entries_show_parents = "hide"
viewcode_line_numbers = False

mathjax_path = "tex-svg.js"
# A command that MathJax does not know is an error and not a word in red: the browser's tests look
# for errors.
mathjax3_config = {
    "tex": {"packages": {"[-]": ["noundefined"]}},
    "options": {"enableMenu": False},  # the menu fetches parts that are not here
    "svg": {"fontCache": "global"},
}

html_title = project
html_theme = "sphinx_book_theme"
html_static_path = ["_static", str(mathjax_file())]
html_css_files = ["course.css"]
html_js_files = ["course.js"]
html_favicon = "_static/favicon.svg"
html_domain_indices = False
html_copy_source = False
html_show_sourcelink = False
html_last_updated_fmt = None
html_context = {"default_mode": "auto"}
html_theme_options = {
    "navbar_persistent": [],
    "use_download_button": False,
    "use_fullscreen_button": False,
    "use_issues_button": False,
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "show_navbar_depth": 1,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
copybutton_selector = "div.cell_input pre, div.highlight-python pre"
copybutton_exclude = ".linenos, .gp, .go"

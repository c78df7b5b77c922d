"""The site as Sphinx is to make it; ``build.py`` says what of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import entitlement_gate

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "entitlement_gate"
author = "The entitlement_gate developers"
project_copyright = author
release = version = entitlement_gate.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["files"]
nitpicky = True
# Types of other libraries are named without a link, which would need a network. So are types that signatures name and
# that are no public names.
nitpick_ignore_regex = [("py:.*", r"(?!entitlement_gate\.[\w.]*$).*"), ("py:class", r"entitlement_gate\.\w+\..*")]
# JSX is not quite JavaScript. An annotation `type` finds every attribute of that name.
suppress_warnings = ["misc.highlighting_failure", "ref.python"]

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4

napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = f"entitlement_gate {release}"
html_favicon = "static/favicon.svg"
html_static_path = ["static"]
html_css_files = ["style.css"]
html_copy_source = False
html_show_sphinx = False
html_show_search_summary = False  # each would fetch a whole page
html_search_scorer = str(Path(__file__).with_name("scorer.js"))
html_use_index = False
html_domain_indices = False


def setup(app: Sphinx) -> None:
    """Leave out of a module's docstring what is said to those who change it."""
    app.connect("autodoc-process-docstring", _leave_out)


def _leave_out(_app: Sphinx, what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    if what == "module":
        text = re.sub(r"\s*Never here:.*?(?=\n\n|\Z)", "", "\n".join(lines), flags=re.DOTALL)
        lines[:] = [*text.splitlines(), ""]

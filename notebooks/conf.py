"""Settings of the documentation.

python -m sphinx -q -W --keep-going -b html notebooks build/docs
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE / "_sphinx"), str(ROOT)]
# Of the kernels that run the notebooks, which import `experiments` too.
os.environ["PYTHONPATH"] = str(ROOT)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import rankjax

project = "rankjax"
author = "the rankjax authors"
release = version = rankjax.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "api",  # before napoleon, which reads what it writes
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "links",
]
exclude_patterns = [".ipynb_checkpoints"]

nitpicky = True
# Names of other packages: their inventories are not fetched.
nitpick_ignore_regex = [("py:.*", r"(?!rankjax\b).*")]

myst_enable_extensions = ["colon_fence", "dollarmath", "html_image"]
myst_heading_anchors = 3

nb_execution_mode = "force"  # a notebook's results depend on more than its cells
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_render_markdown_format = "myst"  # with tables

autodoc_default_options = {
    "members": True,
    "member-order": "bysource",
    "special-members": "__call__",
}
autodoc_class_signature = "mixed"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
smartquotes_action = "D"  # dashes alone: what is quoted is code
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"rankjax {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = html_show_copyright = False
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"

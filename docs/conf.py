"""Settings of the documentation: ``tox -e docs`` builds it, and a warning is an error."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "napari-tokensparse"
author = "napari-tokensparse developers"
project_copyright = author
version = release = version_of("napari-tokensparse")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]

nitpicky = True
# A backtick in a docstring is a link where it names something of ours, else plain emphasis.
default_role = "autolink"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
numpydoc_show_class_members = False
# All of numpydoc's checks but those that ask for what the project's style leaves out: types and
# returns stand in the signature (PR04, RT01, YD01), parameters need no words where their names say
# it or the class lists them as attributes (PR01), and not all needs a second paragraph, an example
# or a see-also (ES01, EX01, SA01).
numpydoc_validation_checks = {"all", "PR04", "RT01", "YD01", "PR01", "ES01", "EX01", "SA01"}

html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_sidebars = {"quickstart": [], "limits": [], "cite": []}  # pages without others below them
html_theme_options = {
    "header_links_before_dropdown": 7,
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "footer_start": ["research"],
    "footer_end": ["theme-version"],
}

# Types of other libraries, as signatures write them: there is no inventory of theirs to link to.
OTHERS = re.compile(
    r"(annotated_types|collections|enum|nn|np|numpy|os|pathlib|pydantic|torch|types|typing)\..+"
    r"|Any|ArrayLike|Callable|Iterable|Iterator|Literal|Mapping|Path|Sequence"
    r"|NDArray|Nifti1Header|Tensor|ConfigDict"
)
# Ours, but nothing to link to: aliases of plain types, and what only our own code makes.
INSIDE = re.compile(
    r"AxisMap|Beginning|Begun|Bounds|CaseFacts|Change|Code|Colour|Described|Dice|Event|FileBeside|Noise"
    r"|Rule|RunProgress|SamplingPlan|Scorer|Shape|Source|TokenBox|TokenPlaces|Trial|Written|_rising"
    r"|INTENDED_USE|METHOD|SIZES|check_output|check_run_files|hd95|keep_range|read_authors"
    r"|stack_channels|write_omezarr|anatomy|pins|ratios"
)


def write_cli(_: Sphinx) -> None:
    """Have typer describe the command line, for cli.md to include."""
    generated = Path(__file__).parent / "generated"
    generated.mkdir(exist_ok=True)
    ours = ["napari_tokensparse.cli", "utils", "docs", "--name", "tokensparse"]
    page = generated / "cli.txt"
    command = [sys.executable, "-m", "typer", *ours, "--output", str(page)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    page.write_text(in_full(page.read_text(encoding="utf-8")), encoding="utf-8")


def in_full(text: str) -> str:
    """Say all of what a command does where typer's lists of commands cut it off."""
    sections = re.findall(r"^#+ `(.+)`\n\n(.+)$", text, re.MULTILINE)
    says = {title.rpartition(" ")[2]: first for title, first in sections}
    return re.sub(
        r"^\* `([\w-]+)`: .+\.\.\.$",
        lambda cut: f"* `{cut[1]}`: {says[cut[1]]}",
        text,
        flags=re.MULTILINE,
    )


def find_type(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.TextElement
) -> nodes.Element | None:
    """Link a type that a signature names without its module; leave those of others as text."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    domain, name = env.domains.python_domain, target.rpartition(".")[2]
    if OTHERS.fullmatch(target) or INSIDE.fullmatch(name):
        return contnode
    found = [full for full in domain.objects if full.rpartition(".")[2] == name]
    if len(found) != 1:
        return None
    return domain.resolve_xref(
        env, node["refdoc"], app.builder, node["reftype"], found[0], node, contnode
    )


def shorten(
    _app: Sphinx, _what: str, _name: str, _thing: Any, _options: Any, signature: str, returns: str
) -> tuple[str, str] | None:
    """Leave the bounds of pydantic's fields out of signatures; the text below has them."""
    short = re.sub(r"Annotated\[([\w |]+), (?:[^\[\]]|\[[^\[\]]*\])+\]", r"\1", signature or "")
    return None if short == (signature or "") else (short, returns)


def setup(app: Sphinx) -> None:
    """Connect what is above."""
    app.connect("builder-inited", write_cli)
    app.connect("autodoc-process-signature", shorten)
    app.connect("missing-reference", find_type)

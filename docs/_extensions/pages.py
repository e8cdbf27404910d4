"""Pages made from what is in the repository: the reference from docstrings, the notebooks with their figures, the results.

They are written to docs/generated before Sphinx looks for pages. Notebooks are not run: their figures are those that
``python docs/figures/notebooks.py`` saved.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util.logging import getLogger

DOCS = Path(__file__).resolve().parents[1]
GENERATED = DOCS / "generated"
FIGURES = DOCS / "figures" / "notebooks"

# The public modules, from the image to the leaves; those that are not there are left out.
MODULES = (
    "torchmotif",
    "torchmotif.image",
    "torchmotif.io",
    "torchmotif.columns",
    "torchmotif.patches",
    "torchmotif.zernike",
    "torchmotif.pca",
    "torchmotif.noise",
    "torchmotif.motifs",
    "torchmotif.layout",
    "torchmotif.cluster",
    "torchmotif.metrics",
    "torchmotif.analysis",
    "torchmotif.dose",
    "torchmotif.plane_graph",
    "torchmotif.hierarchy",
    "torchmotif.lattice",
    "torchmotif.names",
    "torchmotif.statistics",
    "torchmotif.field",
    "torchmotif.datasets",
    "torchmotif.plot",
    "torchmotif.report",
    "torchmotif.export",
    "torchmotif.napari",
    "torchmotif.errors",
)


def public() -> dict[str, list[str]]:
    """Public names of every module, apart from modules; a name of the package itself is at home there."""
    top = import_module("torchmotif")
    taken: set[int] = set()
    found = {}
    for module in MODULES:
        if find_spec(module) is None:
            continue
        loaded = import_module(module)
        names = [n for n in loaded.__all__ if not isinstance(getattr(loaded, n), ModuleType)]
        found[module] = [n for n in names if loaded is top or id(getattr(loaded, n)) not in taken]
        if loaded is top:
            taken = {id(getattr(loaded, n)) for n in names}
    return found


def reference(module: str, names: list[str]) -> str:
    """The page of one module, in reStructuredText."""
    loaded = import_module(module)
    lines = [module, "=" * len(module), "", f".. automodule:: {module}", "   :no-members:", ""]
    if module == "torchmotif":
        lines[3:5] = ["The names that are used as ``tm.…`` after ``import torchmotif as tm``."]
    if not names:
        return "\n".join([*lines, "Its names are those of the package, see :doc:`torchmotif`.", ""])
    lines += [f".. currentmodule:: {module}", "", ".. autosummary::", "   :nosignatures:", ""]
    lines += [f"   {name}" for name in names if not _is_alias(getattr(loaded, name))] + [""]
    for name in names:
        value = getattr(loaded, name)
        if isinstance(value, type) and not _is_alias(value):
            lines += [f".. autoclass:: {name}", "   :members:", "   :special-members: __call__", ""]
        elif callable(value) and hasattr(value, "__code__"):
            lines += [f".. autofunction:: {name}", ""]
        else:
            shown = str(value).replace("typing.", "").replace("collections.abc.", "")
            lines += [f".. data:: {name}", "", f"   ``{shown}``", ""]
    return "\n".join(lines)


def _is_alias(value: Any) -> bool:
    """Whether it names a type that is made of others, such as tuple[int, str]."""
    return hasattr(value, "__origin__")


def notebook(path: Path) -> str:
    """A notebook as MyST: its text, its code, and the figures that the code drew."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = []
    for number, cell in enumerate(cells):
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
            continue
        parts.append(f"```python\n{text}\n```")
        for figure in sorted(FIGURES.glob(f"{path.stem}-{number:02d}-*.webp")):
            above = next((p for p in reversed(parts[:-1]) if not p.startswith("```")), path.stem)
            heading = re.findall(r"^#+ (.*)$", above, flags=re.MULTILINE) or [path.stem]
            parts.append(
                f"```{{image}} ../figures/notebooks/{figure.name}\n:alt: Output of the cell above, {heading[-1]}\n```"
            )
    note = f"This is the notebook `notebooks/{path.name}` of the repository{_online(path.name)}."
    return "\n\n".join([parts[0], f":::{{note}}\n{note}\n:::", *parts[1:], ""])


def _online(name: str) -> str:
    """Links that open a notebook without an installation, where the repository's address is known: as GitHub's workflows have it."""
    where = os.environ.get("GITHUB_REPOSITORY")
    if not where:
        return ""
    colab = f"https://colab.research.google.com/github/{where}/blob/main/notebooks/{name}"
    binder = f"https://mybinder.org/v2/gh/{where}/main?labpath=notebooks%2F{name}"
    return f"; open it in [Colab]({colab}), after `%pip install torchmotif`, or in [Binder]({binder})"


def results() -> str:
    """The page of results, with what is older than the code as it is now."""
    command = [sys.executable, str(DOCS.parent / "benchmarks" / "results.py"), "--print"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603  # our own script


def write_pages(app: Sphinx) -> None:
    """Write all pages; those that are as they were keep their date, so that Sphinx does not read them again."""
    pages = {f"{module}.rst": reference(module, names) for module, names in public().items()}
    pages |= {
        f"{path.stem}.md": notebook(path) for path in sorted((DOCS.parent / "notebooks").glob("*.ipynb"))
    }
    pages["results.md"] = results()
    GENERATED.mkdir(exist_ok=True)
    for old in set(GENERATED.iterdir()) - {GENERATED / name for name in pages}:
        old.unlink()
    entries = "\n".join(f"generated/{module}" for module in public())
    pages["modules.txt"] = f"```{{toctree}}\n:maxdepth: 2\n\n{entries}\n```\n"
    for name, text in pages.items():
        page = GENERATED / name
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")
    app.add_config_value("torchmotif_public", public(), "env")


def homes(app: Sphinx) -> dict[str, str]:
    """Where to link a bare name: that of the package first."""
    found: dict[str, str] = {}
    for module, names in app.config.torchmotif_public.items():
        for name in names:
            found.setdefault(name, f"{module}.{name}")
    return found


def name_role(  # noqa: PLR0917  # docutils' signature
    role: str, rawtext: str, text: str, lineno: int, inliner: Any, options: Any = None, content: Any = None
) -> tuple[list[nodes.Node], list[nodes.Node]]:
    """`find_columns` in a docstring: code, and a link where it is a public name."""
    del role, lineno, options, content
    env = inliner.document.settings.env
    literal = nodes.literal(rawtext, text)
    name = text.removeprefix("torchmotif.").split(".")
    target = homes(env.app).get(name[0]) or homes(env.app).get(name[-1])
    if target is None or text.startswith("_"):
        return [literal], []
    link = pending_xref(
        "", literal, refdomain="py", reftype="obj", reftarget=target, refexplicit=True, refwarn=False
    )
    link["refdoc"] = env.docname
    return [link], []


def plain_text(_app: Sphinx, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Formulas (|m|) and patterns (runs/*.dm4), whose signs reStructuredText would take for markup."""
    example = False
    for number, line in enumerate(lines):
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        if not example:
            lines[number] = line.replace("|", "\\|").replace("/*", "/\\*")


def skip_inherited(_app: Sphinx, _what: str, name: str, _object: Any, skip: bool, _options: Any) -> bool:
    """Leave out what scikit-learn adds to estimators, whose docstrings point into its own documentation."""
    return skip or re.fullmatch(r"set_\w+_request", name) is not None


def check_complete(app: Sphinx, error: Exception | None) -> None:
    """Warn, and so fail, where a public name has no entry."""
    if error is not None or app.builder.name != "html":
        return
    entries = app.env.domaindata["py"]["objects"]
    for missing in _missing(app.config.torchmotif_public, entries):
        getLogger(__name__).warning("%s is public and has no entry in the reference", missing)


def _missing(names: dict[str, list[str]], entries: dict[str, Any]) -> Iterator[str]:
    for module, here in names.items():
        yield from (f"{module}.{name}" for name in here if f"{module}.{name}" not in entries)


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx."""
    app.add_role("name", name_role)
    app.config.default_role = "name"
    app.connect("builder-inited", write_pages, priority=1)
    app.connect("autodoc-process-docstring", plain_text, priority=100)
    app.connect("autodoc-skip-member", skip_inherited)
    app.connect("build-finished", check_complete)
    return {"parallel_read_safe": True}

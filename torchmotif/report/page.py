"""The page itself: what the template is given, and the file it is written to."""

import base64
import hashlib
import json
import tempfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchmotif._threads import single_threaded
from torchmotif.errors import OutputError
from torchmotif.report.assemblies import hierarchy_section
from torchmotif.report.atlas import cards, occupancy
from torchmotif.report.groups import groups_of
from torchmotif.report.moments import layout_of, sampled_moments, spectrum
from torchmotif.report.named import names_section
from torchmotif.report.provenance import dose_statement, provenance
from torchmotif.report.symmetry import symmetry_section
from torchmotif.report.viewer import encoded, viewer_data

if TYPE_CHECKING:
    from torchmotif.report.shown import Shown

__all__ = ["EarlySections", "render", "write_report"]


class EarlySections:
    """The sections of a report that need no sites: another process may draw them while sites are looked for.

    Parameters
    ----------
    result : MotifResult
    """

    @single_threaded()  # of samples: thousands of small steps, each of which would wait for a second thread
    def __init__(self, result: "Shown") -> None:
        self.sample = sampled_moments(result)
        self.power, self.symmetry = spectrum(result, self.sample), symmetry_section(result)


@single_threaded()
def render(result: "Shown", early: EarlySections | None = None) -> str:
    """The report of a result as HTML.

    Parameters
    ----------
    result : MotifResult
    early : EarlySections, optional
        Of this result.

    Returns
    -------
    str
        A whole page; whatever the result's metadata say is shown as text, never run.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("torchmotif.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # What is drawn first, since another process may draw it meanwhile.
    early = early or EarlySections(result)
    sample, hierarchy = early.sample, hierarchy_section(result)
    groups = groups_of(result)
    layout = layout_of(sample)
    data = viewer_data(result, groups)
    if layout is not None:
        data["layout"] = {"index": encoded(sample.index, "<i4"), "xy": encoded(layout, "<f4")}
    script, style = _asset("report.js"), _asset("report.css")
    return environment.get_template("report.html.j2").render(
        title=_title(result),
        facts=_facts(result),
        groups=groups,
        cards=cards(result),
        occupancy=occupancy(result),
        names=names_section(result),
        dose=dose_statement(result),
        layers=[layer["name"] for layer in data["layers"]],
        sampled=len(sample.index),
        has_layout=layout is not None,
        spectrum=early.power,
        symmetry=early.symmetry,
        hierarchy=hierarchy,
        provenance=provenance(result),
        data=Markup(_json_for_script(data)),  # noqa: S704  # holds no "<"
        script=Markup(script),  # noqa: S704  # a file of ours
        style=Markup(style),  # noqa: S704  # a file of ours
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def write_report(result: "Shown", path: Path, early: EarlySections | None = None) -> None:
    """Write the report to a file, which is either whole or as it was.

    Parameters
    ----------
    result : MotifResult
    path : Path
    early : EarlySections, optional
        Of this result.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    page = render(result, early)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
            new = Path(folder) / path.name
            new.write_text(page, encoding="utf-8")
            new.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}; choose another place"
        ) from error


def _asset(name: str) -> str:
    return (resources.files("torchmotif.report") / "templates" / name).read_text(encoding="utf-8")


def _json_for_script(data: dict[str, Any]) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _title(result: "Shown") -> str:
    metadata = result.image.metadata
    name = metadata.get("path") or metadata.get("title") or metadata.get("name")
    return Path(str(name)).name if name else "an image"


def _facts(result: "Shown") -> list[tuple[str, str]]:
    """The first things one wants to know."""
    height, width = result.image.shape
    spacing = f"{result.columns.spacing:.2f} px"
    field = f"{height:,} × {width:,} px"
    pixel = "not known"
    if result.image.pixel_size_nm is not None:
        row_nm, col_nm = result.image.pixel_size_nm
        spacing += f" ({result.columns.spacing * (row_nm * col_nm) ** 0.5:.3g}\N{NO-BREAK SPACE}nm)"
        field += f" ({height * row_nm:.4g}\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}{width * col_nm:.4g}\N{NO-BREAK SPACE}nm)"
        pixel = f"{row_nm:.4g} nm" if row_nm == col_nm else f"{row_nm:.4g} × {col_nm:.4g} nm"
    return [
        ("motifs", f"{result.n_motifs}"),
        ("columns", f"{len(result.columns):,}"),
        ("in a motif", f"{int(result.counts.sum()):,}"),
        ("distance of columns", spacing),
        ("field", field),
        ("pixel", pixel),
    ]

"""What torchmotif analyze found, for people on the terminal, and for machines."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from torchmotif.cli.common import echo_json, in_options
from torchmotif.plot.style import AT_RIM

if TYPE_CHECKING:
    from torchmotif.analysis import MotifResult
    from torchmotif.datasets import Specimen

__all__ = ["tell"]


def tell(
    result: "MotifResult", out: Path, report: bool, as_json: bool, specimen: "Specimen | None" = None
) -> None:
    """Print what was found to stdout, and what a user should know of it to stderr."""
    for warning in result.warnings:
        typer.echo(f"warning: {in_options(warning)}", err=True)
    for note in result.record["notes"]:
        typer.echo(f"note: {note}", err=True)
    if result.image.pixel_size_nm is None:
        typer.echo("note: the image has no pixel size; give it with --pixel-size to get nanometres", err=True)
    sites = _sites(result, specimen)
    if as_json:
        echo_json(_summary(result, out, sites))
        return
    columns = len(result.columns)
    typer.echo(
        f"{columns:,} columns, {result.columns.spacing:.2f} px apart, in {result.n_motifs} motif{'s' * (result.n_motifs != 1)}:"
    )
    called = _called(result)
    for motif, (count, site) in enumerate(zip(result.counts, sites, strict=True)):
        name = "" if site is None else f"; in truth {site[0]} ({site[1]:.0%})"
        typer.echo(
            f"  motif {motif}: {count:7,} columns  {count / columns:6.1%}  {called[motif]}{result.sites.where(motif)}{name}"
        )
    _tell_families(result)
    for group, name in ((-1, "unlike all motifs"), (AT_RIM, "at the rim, with too little of their patch")):
        count = int((result.groups == group).sum())
        typer.echo(f"  none:    {count:7,} columns  {count / columns:6.1%}  {name}")
    import numpy as np

    empty = result.empty_sites()["site"].value_counts().sort_index()
    if len(empty):
        of = ", ".join(f"{count} of motif {site}" for site, count in empty.items())
        typer.echo(f"  empty:   {empty.sum():7,} sites without a column: {of}")
    if np.isfinite(result.sites.p_full).any():
        full, partial, none = (f"{number:,.0f}" for number in result.sites.numbers)
        typer.echo(
            f"  sites:   {len(result.sites):7,} of the crystal: {full} full, {partial} partly occupied, {none} empty"
        )
    _tell_names(result)
    files = "map.png, motifs.png, columns.csv, sites.csv, run.json, ..."
    typer.echo(f"written to {out}/: {files}")
    if report:
        typer.echo(f"to look at it, open {out / 'report.html'} in a browser")


def _tell_families(result: "MotifResult") -> None:
    """Print which motifs are one another turned or mirrored."""
    for family in result.families:
        if len(family.motifs) > 1:
            typer.echo(f"  {family}")


def _called(result: "MotifResult") -> list[str]:
    """What the columns of each motif are called, for a line of text."""
    if result.names is None:
        return [""] * result.n_motifs
    found = result.names.of_motifs(result.labels, result.n_motifs)
    return [f"{name or 'no name'} ({share:.0%}); " for name, share in found]


def _tell_names(result: "MotifResult") -> None:
    """Print how many columns have which name, and the composition."""
    if result.names is None:
        return
    for row in result.names.record.get("table", []):
        clear = row.get("contrast")
        apart = f"; {clear:.1f} standard errors from {row['next']}" if clear is not None else ""
        typer.echo(f"  {row['name']:8} {row['expected']:8,.1f} ± {row['error']:.1f}{apart}")
    parts = result.names.composition.itertuples()
    said = ", ".join(f"{one.element} {one.at_percent:.2f} ± {one.error:.2f}" for one in parts)
    if said:
        typer.echo(f"  atomic per cent: {said} (errors of counting alone)")
    for note in result.names.notes:
        typer.echo(f"  {note}")


def _summary(result: "MotifResult", out: Path, sites: list[tuple[str, float] | None]) -> dict[str, Any]:
    """What was found, for machines."""
    columns = len(result.columns)
    motifs = [
        {
            "motif": motif,
            "columns": int(count),
            "share": count / columns,
            "sits_on": int(result.sites.motifs[motif]),
        }
        | ({} if site is None else {"site": site[0], "site_share": site[1]})
        for motif, (count, site) in enumerate(zip(result.counts, sites, strict=True))
    ]
    return {
        "out": str(out),
        "columns": columns,
        "spacing_px": result.columns.spacing,
        "spacing_nm": result.columns.spacing_nm,
        "motifs": motifs,
        "families": [list(family.motifs) for family in result.families],
        "none": columns - int(result.counts.sum()),
        "names": None if result.names is None else result.names.record,
        "empty_sites": len(result.empty_sites()),
        "sites": len(result.sites),
        "site_states": dict(zip(("full", "partial", "empty"), result.sites.numbers, strict=True)),
        "at_rim": int((result.groups == AT_RIM).sum()),
        "warnings": result.warnings,
        "notes": result.record["notes"],
        "timings_s": result.record["timings_s"],
    }


def _sites(result: "MotifResult", specimen: "Specimen | None") -> list[tuple[str, float] | None]:
    """What each motif of a simulated specimen really is, most often, and in what share of its columns."""
    if specimen is None:
        return [None] * result.n_motifs
    import numpy as np
    from scipy.spatial import cKDTree

    distance, nearest = cKDTree(specimen.truth.positions.numpy()).query(result.columns.positions)
    classes = specimen.truth.classes[np.asarray(nearest)]
    true = np.asarray(distance) < result.columns.spacing / 2
    found: list[tuple[str, float] | None] = []
    for motif in range(result.n_motifs):
        here: Counter[str] = Counter(classes[true & (result.labels == motif)].tolist())
        found += [(site, count / here.total()) for site, count in here.most_common(1)] or [None]
    return found

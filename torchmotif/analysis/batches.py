"""batch(): many files into one store, with tables and a page for people."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torchmotif.analysis._png import png
from torchmotif.analysis.analyze import analyze_into
from torchmotif.analysis.field_result import FieldResult
from torchmotif.analysis.sources import Files
from torchmotif.analysis.store import writing

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["batch", "summary", "warnings_of", "write_tables"]


def batch(
    files: str | Path | Sequence[str | Path],
    store: str | Path,
    *,
    dataset: str | int | None = None,
    frame: int | None = None,
    **options: Any,
) -> FieldResult:
    """Analyse many files; those that cannot be are listed with their reason, the others go through.

    Beside its arrays the store then holds ``csv/``, a table of columns for each file, ``summary.csv``, a row for each
    file, and ``report.html``.

    Parameters
    ----------
    files : str, Path, or list of them
        Files, or patterns such as "runs/*.dm4".
    store : str or Path
    dataset : str or int, optional
        Which data set of files that hold several, see `torchmotif.read`.
    frame : int, optional
        Which image of files that hold a stack, from 0; all by default.
    options
        All others of `torchmotif.field.analyze`. With ``learn="together"`` motifs are learnt over all files, so that
        their numbers mean the same, with ``learn="each"`` for each file by itself.

    Returns
    -------
    FieldResult
        ``record["failures"]`` lists the names of those files that failed, each with its reason.

    Raises
    ------
    InputError
        If no file could be analysed, or as in `torchmotif.field.analyze`.
    OutputError
        If the store cannot be written. What was finished is kept.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import torchmotif as tm
    >>> folder = tempfile.mkdtemp()
    >>> for i in range(2):
    ...     scan = tm.datasets.mose2((256, 256), vacancy_rate=0.0, random_state=i).draw()
    ...     np.savez(f"{folder}/scan{i}.npz", image=scan.numpy(), pixel_size_nm=0.015)
    >>> result = tm.field.batch(f"{folder}/*.npz", f"{folder}/store", progress=False)
    >>> len(result.images), result.n_motifs, result.record["failures"]
    (2, 2, [])
    """
    result = analyze_into(Files(files, dataset, frame), store, **options)
    write_tables(result, Path(store))
    return result


def summary(result: FieldResult) -> "pd.DataFrame":
    """One row for each file: what was found, or why it failed.

    Parameters
    ----------
    result : FieldResult

    Returns
    -------
    pandas.DataFrame
        file, columns, spacing_px, spacing_nm, in_no_motif, the columns in every motif; where they have names the columns and empty
        sites of every name, and by a composition the atomic per cent of every element with the error of counting; failed.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    groups = {image: group for group in result.record["motif_groups"] for image in group["images"]}
    for i, image in enumerate(result.images):
        labels = result.labels[result.rows(i)]
        counts = np.bincount(labels + 1, minlength=groups[i]["n_motifs"] + 1).tolist()
        rows.append(
            {
                "file": image["name"],
                "columns": len(labels),
                "spacing_px": round(image["spacing"], 4),
                "spacing_nm": None if image["spacing_nm"] is None else round(image["spacing_nm"], 5),
                "in_no_motif": counts[0],
                **{f"motif_{motif}": count for motif, count in enumerate(counts[1:])},
                **_named(result, i),
                "failed": "",
            }
        )
    rows += [
        {"file": one["name"], "columns": 0, "failed": one["reason"]} for one in result.record["failures"]
    ]
    table = pd.DataFrame(rows)
    ordered = [name for name in table.columns if name != "failed"] + ["failed"]
    whole = [name for name in ordered if name == "in_no_motif" or name.startswith(("motif_", "name_"))]
    return table[ordered].astype(dict.fromkeys(whole, "Int64"))


def _named(result: FieldResult, image: int) -> dict[str, float]:
    """Columns and empty sites of each name, and the composition."""
    names = result.names_of(image)
    if names is None:
        return {}
    found: dict[str, float] = {f"name_{name}": count for name, count in names.counts.items()}
    for element, at_percent, error in names.composition.itertuples(index=False):
        found |= {
            f"at_percent_{element}": round(at_percent, 4),
            f"at_percent_{element}_error": round(error, 4),
        }
    return found


def write_tables(result: FieldResult, store: Path) -> None:
    """A table for each file, the summary and the page; made anew from the store whenever they are asked for."""
    with writing(store):
        folder = store / "csv"
        folder.mkdir(exist_ok=True)
        for i, name in enumerate(_file_names(result)):
            result.to_dataframe(i).to_csv(folder / name, index=False)
        table = summary(result)
        table.to_csv(store / "summary.csv", index=False)
        page = _page(result, table, store.name)
        (store / "report.html").write_text(page, encoding="utf-8")


def _file_names(result: FieldResult) -> list[str]:
    """A name for each file's table, none twice."""
    names: list[str] = []
    alike = len({Path(image["name"]).stem for image in result.images}) < len(result.images)
    for image in result.images:
        stem = image["name"] if alike else Path(image["name"]).stem
        stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in stem)
        name, number = f"{stem}.csv", 2
        while name in names:
            name, number = f"{stem}-{number}.csv", number + 1
        names.append(name)
    return names


def _page(result: FieldResult, table: "pd.DataFrame", store: str) -> str:
    """The report page: motifs, a row for each file, and what failed."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("torchmotif.analysis"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    good = table[table["failed"] == ""].drop(columns="failed")
    together = len(result.record["motif_groups"]) == 1
    plain = good[[name for name in good.columns if not name.startswith(("name_", "at_percent_"))]]
    named = good[[name for name in good.columns if name.startswith("name_")]]
    elements = [
        name for name in good.columns if name.startswith("at_percent_") and not name.endswith("_error")
    ]
    return environment.get_template("batch.html").render(
        n_images=len(result.images),
        n_columns=len(result),
        n_in_none=int(good["in_no_motif"].sum()),
        n_motifs=result.n_motifs,
        together=together,
        created=result.record["created"],
        store=store,
        motifs=_motif_pictures(result) if together else "",
        shares=_shares(good.filter(regex="^motif_").to_numpy(float)) if together and len(good) > 1 else "",
        header=list(plain.columns),
        rows=_shown(plain),
        names=[name.removeprefix("name_") for name in named.columns],
        named=_shown(named),
        elements=[name.removeprefix("at_percent_") for name in elements],
        composition=_shown(good[elements]),
        composition_errors=_shown(good[[f"{name}_error" for name in elements]]),
        warnings=warnings_of(result),
        links=_file_names(result),
        failures=result.record["failures"],
    )


def _shown(table: "pd.DataFrame") -> list[list[Any]]:
    """The cells of a table, empty where there is nothing."""
    cells: list[list[Any]] = table.astype(object).where(table.notna(), "").to_numpy().tolist()
    return cells


def warnings_of(result: FieldResult) -> list[tuple[str, str]]:
    """Name of an image and what is doubtful in it, or about its names; the first, what is doubtful of a batch of one."""
    every = [
        (image["name"], said)
        for i, image in enumerate(result.images)
        for names in [result.names_of(i)]
        for said in [*image.get("warnings", []), *(names.warnings if names else [])]
    ]
    return every + [(result.images[0]["name"], said) for said in result.record.get("warnings", [])]


def _motif_names(result: FieldResult) -> list[str | None] | None:
    """What most columns of each motif are called in all images; None where none have names."""
    every = [(i, result.names_of(i)) for i in range(len(result.images))]
    labels = [
        result.labels[result.rows(i)][result._by_row(i)]  # noqa: SLF001  # of the same room
        for i, names in every
        if names is not None
    ]
    words = [names.words for _, names in every if names is not None]
    if not words:
        return None
    kinds, columns = np.unique(np.concatenate(words), return_inverse=True)
    motifs = np.concatenate(labels)
    counts = np.zeros((result.n_motifs, len(kinds)), np.int64)
    np.add.at(counts, (motifs[motifs >= 0], columns[motifs >= 0]), 1)
    return [str(kinds[one.argmax()]) or None if one.any() else None for one in counts]


def _motif_pictures(result: FieldResult) -> str:
    from torchmotif import plot

    size = next((image["pixel_size_nm"] for image in result.images if image["zoom"] == 1.0), None)
    nm = None if size is None else (float(size[0]), float(size[1]))
    axes = plot.motif_gallery(
        result.templates, result.counts, n_columns=len(result), names=_motif_names(result), pixel_size_nm=nm
    )
    return png(plot.figure_of(axes[0]))


def _shares(counts: np.ndarray) -> str:
    """How much of each file every motif makes up, of the columns of each motif in each file."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from torchmotif import plot

    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    number = np.arange(1, len(shares) + 1)
    figure = Figure(figsize=(8, 3), layout="constrained")
    ax = figure.subplots()
    for motif, share in enumerate(shares.T):
        colour, marker, *_ = plot.motif_style(motif)
        ax.plot(number, share, marker=marker, ms=3, lw=1, color=colour, label=f"motif {motif}")
    ax.set(xlabel="file", ylabel="columns / %", yscale="symlog", ylim=(0, 120))
    ax.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    return png(figure)

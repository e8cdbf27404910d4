"""--config: the run record of an earlier result, whose parameters are taken where no option says otherwise."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchmotif._guards import read_json
from torchmotif.errors import InputError, ReadError

__all__ = ["NAMING", "Replay", "replayed"]

NAMING = ("composition", "dopants", "gamma", "columns", "examples")  # options that give columns names


@dataclass(frozen=True)
class Replay:
    """What an earlier run was made with.

    Attributes
    ----------
    image : Path or None
        Its file.
    sha256 : str or None
        Of that file.
    options : dict
        Values of the options of `torchmotif analyze`, by the names of its parameters.
    names : dict
        Of these, the options that columns got names by.
    """

    image: Path | None
    sha256: str | None
    options: dict[str, Any]
    names: dict[str, Any]


# Parameters of `analyze` in Python, and the options that set them.
_OPTIONS = {
    "spacing": "spacing",
    "threshold": "threshold",
    "polarity": "polarity",
    "guided": "guided",
    "patch_size": "patch_size",
    "n_max": "n_max",
    "n_motifs": "motifs",
    "equivalence": "equivalence",
    "random_state": "seed",
    "device": "device",
}


def replayed(config: Path) -> Replay:
    """Read a run record.

    Parameters
    ----------
    config : Path
        run.json, or the folder it is in.

    Returns
    -------
    Replay

    Raises
    ------
    InputError
        If it is no run record, or one with parameters that this version does not know.
    """
    path = config / "run.json" if config.is_dir() else config
    try:
        record = read_json(path)
        parameters, metadata = dict(record["parameters"]), dict(record["image"]["metadata"])
        names = dict(record.get("named_by", {}))
        if "dopants" in names:
            hosts = dict(names["dopants"]).items()
            names["dopants"] = ",".join(f"{dopant}:{host}" if host else dopant for dopant, host in hosts)
        if "columns" in names:
            names["columns"] = ",".join(names["columns"])
        if "examples" in names:
            names["examples"] = Path(names["examples"])
    except (OSError, ReadError, ValueError, KeyError, TypeError) as error:
        if not path.is_file():
            raise InputError(f"--config {path} cannot be read: there is no such file") from error
        raise InputError(
            f"--config {path} is not a run record; give the run.json of a folder of results"
        ) from error
    unknown = sorted({*(set(parameters) - set(_OPTIONS)), *(set(names) - set(NAMING))})
    if unknown:
        raise InputError(
            f"--config {path} has parameters that this torchmotif does not know: {', '.join(unknown)}; update torchmotif"
        )
    options = {_OPTIONS[name]: value for name, value in parameters.items()}
    options |= {
        "frame": metadata.get("frame"),
        "dataset": metadata.get("dataset"),
        "pixel_size": metadata.get("pixel_size_given_nm"),
    }
    image = metadata.get("path")
    return Replay(Path(image) if image else None, metadata.get("sha256"), options, names)

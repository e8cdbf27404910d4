"""Formats of microscopes that rosettasciio reads, by those of its readers that only parse."""

import logging
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from torchmotif._guards import check_dm
from torchmotif._units import nm_of_axes
from torchmotif.errors import MissingDependencyError, ReadError
from torchmotif.io._dataset import Dataset, spectra_noted

__all__ = ["microscope"]

# Formats of rosettasciio that hold images and whose readers only parse. Those of netCDF, for example, run what the file says.
_PARSED = {
    "Blockfile", "Bruker", "DENS", "DigitalMicrograph", "DigitalSurf", "EMPAD", "Hamamatsu", "Image", "JEOL", "PantaRhei",
    "Phenom", "QuantumDetector", "Ripple", "Semper", "TIA", "TVIPS",
}  # fmt: skip
# Of these, those that are mapped. Of prz, rosettasciio maps compressed bytes as if they were pixels.
_MAPPED = {"DigitalMicrograph", "Semper", "TIA"}


def microscope(path: Path, *, lazy: bool = False) -> list[Dataset]:
    """The signals of a file that rosettasciio knows by its ending."""
    extension = path.suffix.lower().lstrip(".")
    known = [p for p in _plugins(path) if extension in {str(e).lower() for e in p["file_extensions"]}]
    plugins = [p for p in known if p["name"] in _PARSED]
    if not plugins:
        why = "a format that could run code" if known else "which no reader knows"
        raise ReadError(
            f"{path} has the ending {path.suffix or '(none)'}, {why}; convert it to tif, npy, hspy or mrc"
        )
    if extension in {"dm3", "dm4"}:
        check_dm(path)
    failures: list[Exception] = []
    for plugin in plugins:  # several formats share an ending, such as img
        reader = import_module(plugin["api"]).file_reader
        try:
            signals = reader(str(path), **({"lazy": True} if lazy and plugin["name"] in _MAPPED else {}))
        except ImportError:
            raise
        except Exception as error:  # noqa: BLE001  # the next plugin may know the file
            failures.append(error)
            continue
        return [_from_signal(signal) for signal in signals]
    raise failures[0]


def _plugins(path: Path) -> list[Any]:
    first = "rsciio" not in sys.modules
    try:
        from rsciio import IO_PLUGINS
    except ImportError as error:
        raise MissingDependencyError(
            f"{path.suffix} files are read by rosettasciio: pip install 'torchmotif[io]'"
        ) from error
    if first:  # nobody else has set up its log, which it writes to stdout
        for handler in logging.getLogger("rsciio").handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.setStream(sys.stderr)
                handler.addFilter(_Once())
    return list(IO_PLUGINS)


class _Once(logging.Filter):
    """Lets every message pass once."""

    def __init__(self) -> None:
        super().__init__()
        self.said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it was not said before."""
        said = record.getMessage()
        new = said not in self.said
        self.said.add(said)
        return new


def _from_signal(signal: Mapping[str, Any]) -> Dataset:
    data = signal["data"]
    if data.dtype.names is not None or not hasattr(data, "compute"):
        data = np.asarray(data)
    is_rgb = data.dtype.names is not None
    if data.dtype.names is not None:
        data = np.stack([data[name] for name in data.dtype.names[:3]], axis=-1)
    axes = [axis for axis in signal["axes"] if not axis.get("navigate", False)][-2:]
    signal_axes = len(axes)
    if signal_axes < 2:  # a stack of spectra, or an image whose axes are all called navigation
        axes = list(signal["axes"])[-2:]
    size = nm_of_axes((axis.get("scale"), axis.get("units")) for axis in axes)
    general = signal.get("metadata", {}).get("General", {})
    title = str(general.get("title", ""))
    item = Dataset(data, title, size, "nm", is_rgb, {"title": title} if title else {})
    return spectra_noted(item, signal_axes)

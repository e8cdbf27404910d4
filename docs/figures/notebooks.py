"""Runs every notebook and keeps the pictures it draws, for the documentation: python docs/figures/notebooks.py [NAME ...].

They are saved as docs/figures/notebooks/NAME-CELL-NUMBER.webp, at most 1,200 pixels wide.
"""

import base64
import io
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(__file__).with_suffix("")


def pictures(outputs: list) -> list[bytes]:
    """The PNGs among the outputs of a cell, also those inside its HTML."""
    found = []
    for output in outputs:
        data = output.get("data", {})
        page = re.findall(r"data:image/png;base64,([^\"]+)", data.get("text/html", ""))
        found += [base64.b64decode(text) for text in ([data["image/png"]] if "image/png" in data else page)]
    return found


def save(name: str) -> None:
    """Run one notebook and save its pictures."""
    path = ROOT / "notebooks" / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    for old in TARGET.glob(f"{name}-*.webp"):
        old.unlink()
    for number, cell in enumerate(notebook.cells):
        for i, png in enumerate(pictures(cell.get("outputs", []))):
            picture = Image.open(io.BytesIO(png)).convert("RGB")
            picture.thumbnail((1200, 2400), Image.Resampling.LANCZOS)
            picture.save(TARGET / f"{name}-{number:02d}-{i}.webp", quality=80, method=6)


if __name__ == "__main__":
    TARGET.mkdir(exist_ok=True)
    for stem in sys.argv[1:] or sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")):
        save(stem)

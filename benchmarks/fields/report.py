"""Time to write a report against that of the analysis, and of a frame while its image is moved: ``python benchmarks/fields/report.py``.

A simulated field of 2048 x 2048 pixels with 20,000 columns. Frames need Chromium with its driver and are drawn without a
GPU, in a window of 1280 x 1000 pixels: the image is zoomed in and out and dragged through requestAnimationFrame. What is
given is the time of drawing alone, and that from one frame to the next, which a screen of 60 Hz keeps at 16.7 ms or more.
"""

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import torchmotif as tm

TARGET = Path(__file__).parents[1] / "results" / "report.json"
FRAMES = 300
MOVED = """
const [frames, done] = arguments, view = torchmotif.views[0];
document.getElementById("image").scrollIntoView({block: "center"});
const drawn = [], apart = [];
let last = 0, count = 0;
const draw = view.draw.bind(view);
view.draw = () => { const start = performance.now(); draw(); drawn.push(performance.now() - start); };
function step(now) {
  if (last) apart.push(now - last);
  last = now;
  if (++count > frames) return done({drawn, apart});
  if (count % 50 < 25) view.zoom(count % 100 < 50 ? 1.08 : 1 / 1.08);
  else view.move(7 * Math.sin(count), 5);
  view.changed();
  requestAnimationFrame(step);
}
view.fit();
requestAnimationFrame(step);
"""


def written(side: int, folder: Path) -> tuple[dict[str, Any], Path]:
    """Seconds of the analysis and of the report, and the page."""
    specimen = tm.datasets.mose2((side, side), vacancy_rate=0.06)
    scan = specimen.draw(generator=torch.Generator().manual_seed(0))
    start = time.perf_counter()
    result = tm.analyze(scan, progress=False)
    analysed = time.perf_counter()
    page = folder / "report.html"
    result.report(page)
    return {
        "columns": len(result.columns),
        "analysis_s": round(analysed - start, 2),
        "report_s": round(time.perf_counter() - analysed, 2),
        "megabytes": round(page.stat().st_size / 1e6, 2),
    }, page


def frames(page: Path) -> dict[str, Any] | None:
    """Milliseconds of frames while the image is zoomed and moved."""
    from selenium import webdriver

    driver = shutil.which("chromedriver")
    if driver is None:
        return None
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,1000"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        browser.set_script_timeout(240)
        browser.get(page.as_uri())
        time.sleep(2)
        found = browser.execute_async_script(MOVED, FRAMES)
    finally:
        browser.quit()
    return {
        name: {f"p{q}_ms": round(float(np.percentile(found[name], q)), 1) for q in (50, 95)}
        for name in ("drawn", "apart")
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        found, page = written(int(sys.argv[1]) if len(sys.argv) > 1 else 2048, Path(name))
        print(json.dumps(found))
        found["frames"] = frames(page)
    print(json.dumps(found, indent=2))
    TARGET.write_text(json.dumps(found, indent=2) + "\n")

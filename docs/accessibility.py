"""Looks for barriers in the built documentation: python docs/accessibility.py [FOLDER [AXE_JS]].

Needs Chromium with its driver. Every page below is opened in light and in dark, wide and narrow; faults of impact "serious"
and "critical" end with exit code 1. Screenshots go to FOLDER. AXE_JS is another axe.min.js than that of axe-core-python.
"""

import shutil
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

from selenium import webdriver

BUILT = Path(__file__).parent / "_build" / "html"
PAGES = (
    "index.html",
    "tutorial.html",
    "how-to/interop.html",
    "explanation/motifs.html",
    "generated/torchmotif.html",
    "generated/torchmotif.zernike.html",
    "generated/03_low_dose.html",
    "gallery.html",
    "faq.html",
)


def driver(width: int) -> Any:
    options = webdriver.ChromeOptions()
    for option in ("--headless=new", "--no-sandbox", "--hide-scrollbars", f"--window-size={width},1000"):
        options.add_argument(option)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    screen = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    return browser


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    script = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(str(files("axe_core_python") / "axe.min.js"))
    axe = script.read_text(encoding="utf-8")
    bad = 0
    for width in (1280, 420):
        browser = driver(width)
        for page in PAGES:
            for theme in ("light", "dark"):
                browser.get((BUILT / page).as_uri())
                browser.execute_script(
                    f"localStorage.mode = localStorage.theme = '{theme}';"
                    f"document.documentElement.dataset.theme = document.documentElement.dataset.mode = '{theme}';"
                )
                # colours on their way from one theme to the other are no faults
                browser.execute_script(
                    "document.head.append(Object.assign(document.createElement('style'),"
                    "{textContent: '* { transition: none !important; }'}));"
                )
                browser.execute_script(axe)
                found = browser.execute_async_script("axe.run().then(arguments[arguments.length - 1])")[
                    "violations"
                ]
                for fault in found:
                    bad += fault["impact"] in {"serious", "critical"}
                    where = ", ".join(str(node["target"][0]) for node in fault["nodes"][:3])
                    print(
                        f"{page} {theme} {width} px: {fault['impact']}: {fault['id']} ({len(fault['nodes'])}): {where}"
                    )
                if folder is not None:
                    folder.mkdir(parents=True, exist_ok=True)
                    name = page.replace("/", "-").removesuffix(".html")
                    browser.save_screenshot(str(folder / f"{name}-{theme}-{width}.png"))
        browser.quit()
    print(f"{len(PAGES)} pages: {bad} serious faults")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())

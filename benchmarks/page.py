"""Waiting times on the page in Chromium: interactive, image on screen, evidence, draft.

Needs a running page (`cxr-rag demo`); each run has a new browser context without cache. The image
is a noisy phantom of 3000 x 4000 pixels, 12 bits, lossless JPEG 2000 in DICOM.

    nice -n 10 python benchmarks/page.py --url http://127.0.0.1:7860/ --runs 30
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, sync_playwright
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless

from demo.phantom import draw_phantom
from encoders.dicom.write import write_dx

ROWS, COLUMNS = 4000, 3000
NOISE = 12  # standard deviation of 4095, so that the file is as large as a real one
TIMEOUT_MS = 120_000
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
INTERACTIVE = (
    "() => document.querySelector('#draft-it')"
    " && document.querySelector('.viewer[data-state=empty] [data-do=tool-window][aria-pressed]')"
    " && document.querySelector('#upload input[type=file]')"
)
# this text appears after the first paint of the image
PAINTED = "() => /%/.test(document.querySelector('.pane .corner-zoom')?.textContent ?? '')"
# a preview is painted first
FULL_RESOLUTION = "() => document.querySelector('.pane')?.dataset.fullResolution === 'true'"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:7860/")
    parser.add_argument("--runs", type=int, default=30)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.dcm"
        write_large_image(image)
        megabytes = image.stat().st_size / 2**20
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=FLAGS
            )
            one_run(browser, args.url, image)  # warms up the server
            runs = [one_run(browser, args.url, image) for _ in range(args.runs)]
            browser.close()
    print(f"{args.runs} runs; image {COLUMNS} x {ROWS}, {megabytes:.1f} MiB; seconds p50, p95")
    for name in runs[0]:
        p50, p95 = np.percentile([run[name] for run in runs], [50, 95])
        print(f"{name:<42}{p50:>8.2f}{p95:>8.2f}")


def one_run(browser: Browser, url: str, image: Path) -> dict[str, float]:
    """Seconds of each wait."""
    context = browser.new_context(viewport={"width": 1920, "height": 1080})
    page = context.new_page()
    start = time.perf_counter()
    page.goto(url)
    page.wait_for_function(INTERACTIVE, timeout=TIMEOUT_MS)
    interactive = time.perf_counter() - start
    with page.expect_response(
        lambda response: "/gradio_api/upload?" in response.url, timeout=TIMEOUT_MS
    ) as uploaded:
        start = time.perf_counter()
        page.set_input_files("#upload input[type=file]", image)
    uploaded.value.finished()
    received = time.perf_counter()
    page.wait_for_function(PAINTED, timeout=TIMEOUT_MS)
    shown = time.perf_counter()
    page.wait_for_function(FULL_RESOLUTION, timeout=TIMEOUT_MS)
    full = time.perf_counter()
    page.click("#draft-it")
    clicked = time.perf_counter()
    page.wait_for_selector(".card", timeout=TIMEOUT_MS)
    evidence = time.perf_counter() - clicked
    page.wait_for_selector(".draft .line[tabindex], .no-draft", timeout=TIMEOUT_MS)
    draft = time.perf_counter() - clicked
    context.close()
    return {
        "first interactive": interactive,
        "image on screen, from choosing the file": shown - start,
        "image on screen, from the end of the upload": shown - received,
        "all its pixels, from the end of the upload": full - received,
        "evidence, from the click": evidence,
        "draft, from the click": draft,
    }


def write_large_image(path: Path) -> None:
    """A phantom of 12 megapixels, lossless JPEG 2000."""
    phantom = Image.fromarray(draw_phantom(seed=1).astype(np.float32))
    pixels = np.asarray(phantom.resize((COLUMNS, ROWS), Image.Resampling.BICUBIC)) * 4095
    noise = np.random.default_rng(0).normal(0, NOISE, pixels.shape)
    write_dx(
        path,
        np.clip(np.rint(pixels + noise), 0, 4095).astype(np.uint16),
        bits=12,
        spacing_mm=0.1,
        patient_name="PHANTOM^LARGE",
        patient_id="PHANTOM-LARGE",
        description="Drawn phantom, no patient",
    )
    image = dcmread(path)
    image.compress(JPEG2000Lossless)
    image.save_as(path)


if __name__ == "__main__":
    main()

"""The picture of a run's numbers."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from encoders.training.curves import FILE, as_svg, write_curves
from encoders.training.run_folder import append_metrics

NAMES = "{http://www.w3.org/2000/svg}"


def spots(line: ElementTree.Element) -> list[tuple[float, float]]:
    return [tuple(map(float, spot.split(","))) for spot in line.attrib["points"].split()]  # type: ignore[misc]


def test_a_falling_loss_falls_in_the_picture(tmp_path: Path) -> None:
    for step in range(1, 121):
        append_metrics(tmp_path, step=step, values={"loss": 10 / step})
        if step % 40 == 0:
            append_metrics(tmp_path, step=step, values={"val R@10 <both>": step / 120})
    write_curves(tmp_path)
    root = ElementTree.parse(tmp_path / FILE).getroot()  # noqa: S314 - our own file
    pale, median, val = root.iter(f"{NAMES}polyline")
    assert len(spots(pale)) == len(spots(median)) == 120
    assert len(spots(val)) == len(list(root.iter(f"{NAMES}circle"))) == 3
    heights = [y for _, y in spots(median)]
    assert heights == sorted(heights)  # down is a larger y
    steps = [x for x, _ in spots(val)]
    assert steps[2] == max(x for x, _ in spots(pale))
    text = " ".join(element.text or "" for element in root.iter(f"{NAMES}text"))
    assert "val R@10 <both>" in text
    assert "step 120" in text


def test_a_loss_that_is_no_number_is_said(tmp_path: Path) -> None:
    write_curves(tmp_path)
    assert not (tmp_path / FILE).exists()
    picture = as_svg({"loss": np.asarray([[1, float("nan")]]), "flat": np.asarray([[1, 2.0]])})
    ElementTree.fromstring(picture)  # noqa: S314 - our own text
    assert "never a finite number" in picture
    assert "nan" not in picture

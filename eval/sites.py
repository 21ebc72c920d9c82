"""Sites to compare encoders on: what the file says, their images, and what must be kept apart.

A site is a data set: images with labels, perhaps with reports, perhaps with a collection to draft
from. What is learned or indexed at one is measured at every one, so nothing of a site's test part
may be in what another learned from.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eval.datasets import DatasetImage, DatasetLayout, ImageDataset, read_layout
from eval.embedding import locate
from eval.errors import EvalLeakError, EvalUsageError, listed
from eval.tasks.zero_shot import LEAST
from eval.vectors import Vectors


class Site(BaseModel):
    """A data set; paths are relative to the file that names it.

    Attributes:
        name: in the tables.
        table: of its images, as for `cxr-rag eval embed`.
        layout: which data set it is.
        images: folder of the images; by default the table's.
        train_split: to learn the probe from; empty: nothing is learned or indexed here.
        test_split: to measure on; empty: all images.
        collection: reports to index and draft from, as for `cxr-rag index --collection`, or
            "open-i"; empty: no drafts from here.
        classes: by our name of a class, the table's own names of it; others are left out. Empty:
            the names are ours.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    table: Path
    layout: DatasetLayout = DatasetLayout.TABLE
    images: Path = Path()
    train_split: str = "train"
    test_split: str = "val"
    collection: str = ""
    classes: dict[str, tuple[str, ...]] = {}


class EncoderComparison(BaseModel):
    """What to compare, and where.

    Attributes:
        encoders: as `encoders.registry` names them; the first is what the others are compared with.
        site: where; the first has training images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoders: tuple[str, ...] = Field(min_length=1)
    site: tuple[Site, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class SiteImages:
    """A site with its images.

    Attributes:
        data: those to learn from and to test on.
        paths: files by image id, of the whole table.
        test: what is measured on: where a site has reports, the images that have one.
    """

    site: Site
    data: ImageDataset
    paths: Mapping[str, Path]
    train: tuple[DatasetImage, ...]
    test: tuple[DatasetImage, ...]


def read_comparison(path: Path) -> EncoderComparison:
    """A comparison from its file.

    Raises:
        EvalUsageError: it is missing, no TOML, has other keys, or names a site or encoder twice.
    """
    try:
        asked = EncoderComparison(**tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise EvalUsageError(f"{path} cannot be used: {error}") from error
    for names in (asked.encoders, [site.name for site in asked.site]):
        if len(set(names)) < len(names):
            raise EvalUsageError(f"{path} names an encoder or site twice: {', '.join(names)}")
    if not asked.site[0].train_split:
        raise EvalUsageError(f"{path}: the first site has no train_split: nothing is learned there")
    return asked.model_copy(update={"site": tuple(_placed(s, path.parent) for s in asked.site)})


def _placed(site: Site, folder: Path) -> Site:
    images = folder / site.images if site.images.parts else (folder / site.table).parent
    collection = site.collection
    if collection not in ("", "open-i"):
        collection = str(folder / collection)
    paths = {"table": folder / site.table, "images": images, "collection": collection}
    return site.model_copy(update=paths)


def read_site(site: Site) -> SiteImages:
    """The images of a site.

    Raises:
        EvalUsageError: no table, or no image in the split.
        EvalDataError: names every line that is wrong, or the images that are not there.
    """
    data = read_layout(site.layout, site.table)
    if site.classes:
        data = data.renamed(site.classes)
    paths = locate(data, site.images)
    test = [image for image in data.images if image.split == site.test_split or not site.test_split]
    if any(image.text for image in test):
        test = [image for image in test if image.text]
    train = [image for image in data.images if site.train_split and image.split == site.train_split]
    if not test or (site.train_split and not train):
        raise EvalUsageError(
            f"{site.name} has {len(train)} images in {site.train_split!r} to learn from and "
            f"{len(test)} in {site.test_split!r} to measure on"
        )
    kept = tuple(sorted({*train, *test}, key=lambda image: image.image_id))
    return SiteImages(site, replace(data, images=kept), paths, tuple(train), tuple(test))


def common_classes(sites: Sequence[SiteImages]) -> tuple[str, ...]:
    """Classes that every site has often enough, with and without, to learn and to measure."""

    def frequent(images: Sequence[DatasetImage], name: str) -> bool:
        there = sum(name in image.labels for image in images)
        return LEAST <= there <= len(images) - LEAST

    parts = [each.test for each in sites] + [each.train for each in sites if each.train]
    found = [name for name in sites[0].data.classes if all(frequent(p, name) for p in parts)]
    if not found:
        raise EvalUsageError(
            f"no class has {LEAST} images with it and {LEAST} without in every part of every site"
        )
    return tuple(found)


def train_and_test(
    vectors: Mapping[str, Vectors], home: SiteImages, away: SiteImages
) -> tuple[Vectors, Vectors]:
    """What is learned from and what is measured on.

    Raises:
        EvalLeakError: both hold a patient, a study or an image.
    """
    train = _of(vectors[home.site.name], home.train)
    test = _of(vectors[away.site.name], away.test)
    shared = {
        "patients": set(train.patient_ids) & set(test.patient_ids),
        "studies": set(train.image_ids) & set(test.image_ids),
    }
    if home is not away:
        pictures = {row.tobytes() for row in train.thumbnail}
        shared["images, by their pixels,"] = {
            name
            for name, row in zip(test.image_ids, test.thumbnail, strict=True)
            if row.tobytes() in pictures
        }
    for what, names in shared.items():
        if names:
            raise EvalLeakError(
                f"{len(names)} {what} of {home.site.name} ({home.site.train_split}) are measured "
                f"on in {away.site.name} too:\n{listed(sorted(names))}"
            )
    return train, test


def _of(vectors: Vectors, images: Sequence[DatasetImage]) -> Vectors:
    return vectors.select(np.isin(vectors.image_ids, [image.image_id for image in images]))

"""Sites on which encoders are compared: configuration, images, leak check.

A site is a data set: labelled images, perhaps with reports, perhaps with a collection to draft
from. A probe or index of one site is tested on every site, so no test image of a site may be in
the training data of another.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eval.datasets import DatasetImage, DatasetLayout, ImageDataset, read_layout
from eval.embedding import find_images
from eval.errors import EvalLeakError, EvalUsageError, bullet_list
from eval.vectors import MIN_CLASS_IMAGES, Vectors


class Site(BaseModel):
    """A data set; paths are relative to the configuration file.

    Attributes:
        name: for the tables.
        table: of its images, as for `cxr-rag eval embed`.
        layout: of the table.
        images: folder of the images; default: the table's.
        train_split: trains the probe; empty: this site is only tested on.
        test_split: empty: all images.
        collection: reports to index and draft from, as for `cxr-rag index --collection`, or
            "open-i"; empty: no drafts.
        classes: the table's names for each class; others are dropped. Empty: no renaming.
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
    """The configuration of `cxr-rag eval encoders`.

    Attributes:
        encoders: as for `encoders.registry`; the others are compared with the first.
        site: the first has training images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoders: tuple[str, ...] = Field(min_length=1)
    site: tuple[Site, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class SiteImages:
    """A site with its images.

    Attributes:
        data: training and test images.
        paths: file of each image of the table, by id.
        test: if the site has reports, only images with one.
    """

    config: Site
    data: ImageDataset
    paths: Mapping[str, Path]
    train: tuple[DatasetImage, ...]
    test: tuple[DatasetImage, ...]


def read_comparison(path: Path) -> EncoderComparison:
    """Read a configuration file.

    Raises:
        EvalUsageError: it is missing or invalid, or names a site or encoder twice.
    """
    try:
        config = EncoderComparison(**tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise EvalUsageError(f"{path} cannot be used: {error}") from error
    for names in (config.encoders, [site.name for site in config.site]):
        if len(set(names)) < len(names):
            raise EvalUsageError(f"{path} names an encoder or site twice: {', '.join(names)}")
    if not config.site[0].train_split:
        raise EvalUsageError(f"{path}: the first site needs a train_split to train on")
    sites = tuple(_resolve_paths(site, path.parent) for site in config.site)
    return config.model_copy(update={"site": sites})


def _resolve_paths(site: Site, folder: Path) -> Site:
    images = folder / site.images if site.images.parts else (folder / site.table).parent
    collection = site.collection
    if collection not in ("", "open-i"):
        collection = str(folder / collection)
    paths = {"table": folder / site.table, "images": images, "collection": collection}
    return site.model_copy(update=paths)


def read_site(site: Site) -> SiteImages:
    """The images of a site.

    Raises:
        EvalUsageError: no table, or no image in a split.
        EvalDataError: names every invalid line, or the missing images.
    """
    data = read_layout(site.layout, site.table)
    if site.classes:
        data = data.map_classes(site.classes)
    paths = find_images(data, site.images)
    test = [image for image in data.images if image.split == site.test_split or not site.test_split]
    if any(image.text for image in test):
        test = [image for image in test if image.text]
    train = [image for image in data.images if site.train_split and image.split == site.train_split]
    if not test or (site.train_split and not train):
        raise EvalUsageError(
            f"{site.name} has {len(train)} images in {site.train_split!r} to train on and "
            f"{len(test)} in {site.test_split!r} to test on"
        )
    used = tuple(sorted({*train, *test}, key=lambda image: image.image_id))
    return SiteImages(site, replace(data, images=used), paths, tuple(train), tuple(test))


def common_classes(sites: Sequence[SiteImages]) -> tuple[str, ...]:
    """Classes with enough images with and without them in every training and test split."""

    def is_frequent(name: str, images: Sequence[DatasetImage]) -> bool:
        count = sum(name in image.labels for image in images)
        return min(count, len(images) - count) >= MIN_CLASS_IMAGES

    splits = [site.test for site in sites] + [site.train for site in sites if site.train]
    classes = [name for name in sites[0].data.classes if all(is_frequent(name, s) for s in splits)]
    if not classes:
        raise EvalUsageError(
            f"no class has {MIN_CLASS_IMAGES} images with it and {MIN_CLASS_IMAGES} without in "
            "every split of every site"
        )
    return tuple(classes)


def train_and_test(
    vectors: Mapping[str, Vectors], source: SiteImages, target: SiteImages
) -> tuple[Vectors, Vectors]:
    """Training vectors of the source site and test vectors of the target site.

    Raises:
        EvalLeakError: they share a patient, a study or an image.
    """
    train = _select_images(vectors[source.config.name], source.train)
    test = _select_images(vectors[target.config.name], target.test)
    shared = {
        "patients": set(train.patient_ids) & set(test.patient_ids),
        "studies": set(train.image_ids) & set(test.image_ids),
    }
    if source is not target:
        train_pixels = {row.tobytes() for row in train.thumbnail}
        shared["images, by their pixels,"] = {
            name
            for name, row in zip(test.image_ids, test.thumbnail, strict=True)
            if row.tobytes() in train_pixels
        }
    for kind, names in shared.items():
        if names:
            raise EvalLeakError(
                f"{len(names)} {kind} of {source.config.name} ({source.config.train_split}) are "
                f"also tested on in {target.config.name}:\n{bullet_list(sorted(names))}"
            )
    return train, test


def _select_images(vectors: Vectors, images: Sequence[DatasetImage]) -> Vectors:
    return vectors.select(np.isin(vectors.image_ids, [image.image_id for image in images]))

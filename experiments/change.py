"""Measures how well change is told from images of one patient, and fits the encoder's change.json.

    python -m experiments.change DATA [--encoder eclip] [--write]

DATA holds ``nih_128`` (images in time order, text-mined labels) and ``nih_expert`` (images read by
radiologists). Only patients held back from the encoder's training are used, with two references:

*Text-mined*: consecutive images; the earlier one's labels stand for the prior report. A label that
is not mentioned counts as absent, so what a report leaves out looks like a change.
*Experts*: images that one source read both times (ChestX-Det, RSNA). Few, and selected for
findings, but reliable: the model and its limits are fitted on them, AUCs are measured on both.

Verdicts are cross-fitted over ten folds of patients; AUCs are of the head's own log-odds. Limits
are chosen on the experts' rows, so the accuracy of verdicts there is slightly optimistic. Intervals
are 95 % bootstrap over patients.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_predict

from encoders.registry import eclip_folder, load_encoder
from eval.metrics.base import divide
from eval.stats import intervals, resample_weights, weighted_auroc
from experiments.change_pairs import (
    Flags,
    Floats,
    ImagePairs,
    expert_images,
    pair_images,
    predict_log_odds,
    text_mined_images,
)
from rag.atomic_io import write_text_atomic
from rag.change import CHANGE_FILE, VERSION
from rag.screening.calibration import read_calibration
from rag.screening.finding_head import CALIBRATION_FILE, HEAD_FILE, read_finding_head

FOLDS, RESAMPLES = 10, 1000
MIN_ACCURACY, MIN_LOWER_BOUND, MIN_VERDICTS = 0.75, 0.5, 25
"""A verdict's limit is the lowest certainty above which at least 25 were given, three in four were
right, and the lower end of Wilson's interval (rows counted as independent) is above one half."""
MIN_ROWS = 5
"""Findings need so many rows with and without the finding now, from the same earlier state."""
Weighted = Callable[[Floats], Floats]
"""Row weights float64 [B, N] to a value for each set of weights, [B]."""


def design_matrix(pairs: ImagePairs) -> Floats:
    """Log-odds centred by finding, and an indicator column for each finding."""
    names = np.unique(pairs.findings)
    indicators = (pairs.findings[:, None] == names).astype(float)
    return np.hstack([(pairs.log_odds - indicators @ mean_log_odds(pairs))[:, None], indicators])


def mean_log_odds(pairs: ImagePairs) -> Floats:
    """Mean log-odds of each finding, in the order of their names."""
    names = np.unique(pairs.findings)
    return np.array([pairs.log_odds[pairs.findings == name].mean() for name in names])


def regression() -> LogisticRegression:
    """One slope for all findings, and a shift for each, regularised towards the common one."""
    return LogisticRegression(C=1.0, max_iter=1000)


def cross_fit(pairs: ImagePairs, rows: Flags) -> Floats:
    """Probability that the finding is present now, for these rows, from other folds' patients."""
    names, patient = np.unique(pairs.patients, return_inverse=True)
    fold = (np.random.default_rng(0).permutation(len(names)) % FOLDS)[patient]
    probabilities: Floats = cross_val_predict(
        regression(),
        design_matrix(pairs)[rows],
        pairs.now[rows],
        cv=PredefinedSplit(fold[rows]),
        method="predict_proba",
    )
    return probabilities[:, 1]


def auc_rows(pairs: ImagePairs) -> Iterator[str]:
    """Table rows: mean AUC over the findings with at least five rows of either outcome."""
    for name, rows, changed, sign in (
        ("appears", ~pairs.before, pairs.now, 1),
        ("disappears", pairs.before, ~pairs.now, -1),
    ):
        selected, truth = pairs.select(rows), changed[rows]
        masks = [selected.findings == finding for finding in np.unique(selected.findings)]
        masks = [mask for mask in masks if min(truth[mask].sum(), (~truth[mask]).sum()) >= 5]
        auc = _interval(selected.patients, _mean_auc(sign * selected.log_odds, truth, masks))
        yield f"| {name} | {truth.sum()} of {rows.sum()}; {len(masks)} | {auc} |"


def _mean_auc(scores: Floats, truth: Flags, masks: list[Any]) -> Weighted:
    def mean(weights: Floats) -> Floats:
        undefined = np.full(len(weights), np.nan)
        aucs = [weighted_auroc(scores[mask], truth[mask], weights[:, mask]) for mask in masks]
        return np.asarray(np.nanmean(aucs or [undefined], axis=0))

    return mean


def _interval(patients: NDArray[np.str_], statistic: Weighted) -> str:
    """A statistic with its 95 % interval, bootstrap over patients."""
    samples = resample_weights(patients.tolist(), samples=RESAMPLES, seed=0)
    low, high = intervals(np.concatenate([statistic(weights) for weights in samples])[:, None])[0]
    return f"{statistic(np.ones((1, len(patients))))[0]:.3f} [{low:.3f}, {high:.3f}]"


def cross_fit_verdicts(pairs: ImagePairs) -> dict[str, tuple[Floats, Flags]]:
    """For each verdict, certainty and correctness in every row where it could be given."""
    appears, persists = (cross_fit(pairs, rows) for rows in (~pairs.before, pairs.before))
    now = pairs.now[pairs.before]
    return {
        "new": (appears, pairs.now[~pairs.before]),
        "persists": (persists, now),
        "resolved": (1 - persists, ~now),
    }


def accuracy_lines(pairs: ImagePairs, limits: Mapping[str, float]) -> Iterator[str]:
    """A line per verdict: how often it is given, and how often it is right then."""
    for verdict, (certainty, right) in cross_fit_verdicts(pairs).items():
        patients = pairs.patients[~pairs.before if verdict == "new" else pairs.before]
        given = certainty >= limits.get(verdict, np.inf)
        if given.any():
            accuracy = _interval(patients[given], _share(right[given]))
            yield f"{verdict}: given in {given.sum()} of {len(given)} rows, right in {accuracy}"


def _share(flags: Flags) -> Weighted:
    return lambda weights: divide(weights @ flags, weights.sum(axis=1))


def fit_limit(certainty: Floats, right: Flags) -> float | None:
    """The lowest certainty above which enough verdicts are right; None if there is none."""
    for limit in np.arange(0.5, 1.0, 0.01):
        given = certainty >= limit
        if given.sum() < MIN_VERDICTS:
            break
        test = binomtest(int(right[given].sum()), int(given.sum()))
        lower_bound = test.proportion_ci(method="wilson").low
        if right[given].mean() >= MIN_ACCURACY and lower_bound > MIN_LOWER_BOUND:
            return round(float(limit), 2)
    return None


def frequent_rows(pairs: ImagePairs) -> Flags:
    """Rows of findings with at least `MIN_ROWS` of either outcome from the row's earlier state."""
    frequent = np.zeros(len(pairs.now), bool)
    for name in np.unique(pairs.findings):
        for state in (pairs.before, ~pairs.before):
            rows = state & (pairs.findings == name)
            if min(pairs.now[rows].sum(), (~pairs.now[rows]).sum()) >= MIN_ROWS:
                frequent |= rows
    return frequent


def fit_model(pairs: ImagePairs, encoder_id: str) -> dict[str, Any]:
    """The content of change.json, which `rag.change.read_change_model` reads."""
    names, present_now = np.unique(pairs.findings), {}
    for state, rows in (("absent", ~pairs.before), ("present", pairs.before)):
        model = regression().fit(design_matrix(pairs)[rows], pairs.now[rows])
        slope, shifts = model.coef_[0][0], model.coef_[0][1:] + model.intercept_[0]
        biases = shifts - slope * mean_log_odds(pairs)
        present_now[state] = {
            str(name): [round(float(bias), 3), round(float(slope), 3)]
            for name, bias in zip(names, biases, strict=True)
            if (pairs.findings[rows] == name).any()
        }
    verdicts = cross_fit_verdicts(pairs)
    limits = {name: fit_limit(certainty, right) for name, (certainty, right) in verdicts.items()}
    return {
        "format": VERSION,
        "encoder_id": encoder_id,
        "patients": len(np.unique(pairs.patients)),
        "rows": len(pairs.now),
        "limits": {name: limit for name, limit in limits.items() if limit is not None},
        "present_now": present_now,
    }


def main() -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--encoder", default="eclip")
    parser.add_argument(
        "--write", action="store_true", help="change.json into the encoder's folder"
    )
    options = parser.parse_args()
    folder = eclip_folder(options.encoder)
    if folder is None:
        parser.error(f"{options.encoder} has no folder of its own")
    encoder, head = load_encoder(options.encoder), read_finding_head(folder / HEAD_FILE)
    calibration = read_calibration(folder / CALIBRATION_FILE)
    sources = {
        "text-mined": text_mined_images(options.data),
        "experts": expert_images(options.data),
    }
    log_odds = predict_log_odds(chain(*sources.values()), encoder, head, calibration)
    pairs = {
        name: pair_images(patients, log_odds, head.names, not_assessable=calibration.not_assessable)
        for name, patients in sources.items()
    }
    frequent = {name: rows.select(frequent_rows(rows)) for name, rows in pairs.items()}
    model = fit_model(frequent["experts"], encoder.encoder_id)
    for name, rows in pairs.items():
        lines = [f"\n{name}: {len(np.unique(rows.patients))} patients, {len(rows.now)} rows\n"]
        lines += [*auc_rows(rows), "", *accuracy_lines(frequent[name], model["limits"])]
        sys.stdout.write("\n".join(lines) + "\n")
    if options.write:
        write_text_atomic(folder / CHANGE_FILE, json.dumps(model, indent=1) + "\n")


if __name__ == "__main__":
    main()

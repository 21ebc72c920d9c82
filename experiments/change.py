"""What two images of one patient tell of change: measures it, and fits the encoder's change.json.

    python -m experiments.change DATA [--encoder eclip] [--write]

DATA holds ``nih_128`` (images in time order, text-mined labels) and ``nih_expert`` (images read by
radiologists). Only patients whom the encoder's training never saw count. Two truths:

*Text-mined*: consecutive images; the earlier one's labels stand for what the prior report states. A
label that is not mentioned is not there, so what a report leaves out looks like a change.
*Experts*: images that one source read both times (ChestX-Det, RSNA). Few, chosen for findings, but
what they say is there. The model and its limits come from these, areas under the curve from both.

Verdicts are cross-fitted over ten folds of patients; areas are of the head's own log-odds, to which
nothing is fitted here. The limits are chosen on the experts' rows, so how often a verdict is right
there is slightly flattered. Intervals are over resamples of patients.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
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
    log_odds,
    mined_images,
    pairs_of,
)
from rag.atomic_io import write_text_atomic
from rag.change import CHANGE_FILE, VERSION
from rag.screening.calibration import read_calibration
from rag.screening.finding_head import CALIBRATION_FILE, HEAD_FILE, read_finding_head

FOLDS, RESAMPLES = 10, 1000
LEAST_RIGHT, SURELY_RIGHT, LEAST_SAID = 0.75, 0.5, 25
"""A verdict is said from the lowest certainty on at which so many are right by experts, more than
half by the lower end of Wilson's interval (rows of one patient counted as independent), and it was
said so often; else never."""
LEAST_ROWS = 5
"""That went and that stayed, of a finding that was there, and alike of one that was not; fewer say
nothing of the finding, and it is left out."""
Weighted = Callable[[Floats], Floats]
"""How often each row counts, float64 [B, N], to a value of each, [B]."""


def features(pairs: ImagePairs) -> Floats:
    """Log-odds about each finding's mean, and which finding it is."""
    names = np.unique(pairs.findings)
    which = (pairs.findings[:, None] == names).astype(float)
    return np.hstack([(pairs.odds - which @ means_of(pairs))[:, None], which])


def means_of(pairs: ImagePairs) -> Floats:
    """Mean log-odds of each finding, in the order of their names."""
    names = np.unique(pairs.findings)
    return np.array([pairs.odds[pairs.findings == name].mean() for name in names])


def one_slope() -> LogisticRegression:
    """One slope for all findings, and a shift for each, held towards the common one."""
    return LogisticRegression(C=1.0, max_iter=1000)


def cross_fitted(pairs: ImagePairs, rows: Flags) -> Floats:
    """Probability that the finding is there now, in these rows, by patients of other folds."""
    names, places = np.unique(pairs.patients, return_inverse=True)
    fold = (np.random.default_rng(0).permutation(len(names)) % FOLDS)[places]
    found: Floats = cross_val_predict(
        one_slope(),
        features(pairs)[rows],
        pairs.now[rows],
        cv=PredefinedSplit(fold[rows]),
        method="predict_proba",
    )
    return found[:, 1]


def areas(pairs: ImagePairs) -> Iterator[str]:
    """Lines of a table: mean area over the findings that have five of either kind."""
    for name, rows, so, sign in (
        ("appears", ~pairs.before, pairs.now, 1),
        ("disappears", pairs.before, ~pairs.now, -1),
    ):
        at, true = pairs.only(rows), so[rows]
        parts = [at.findings == finding for finding in np.unique(at.findings)]
        parts = [part for part in parts if min(true[part].sum(), (~true[part]).sum()) >= 5]
        area = _interval(at.patients, _mean_auc(sign * at.odds, true, parts))
        yield f"| {name} | {true.sum()} of {rows.sum()}; {len(parts)} | {area} |"


def _mean_auc(scores: Floats, so: Flags, parts: list[Any]) -> Weighted:
    def mean(weights: Floats) -> Floats:
        none = np.full(len(weights), np.nan)
        each = [weighted_auroc(scores[part], so[part], weights[:, part]) for part in parts]
        return np.asarray(np.nanmean(each or [none], axis=0))

    return mean


def _interval(patients: NDArray[np.str_], value: Weighted) -> str:
    """A value with its 95 % interval over resamples of patients."""
    drawn = [value(w) for w in resample_weights(patients.tolist(), samples=RESAMPLES, seed=0)]
    low, high = intervals(np.concatenate(drawn)[:, None])[0]
    return f"{value(np.ones((1, len(patients))))[0]:.3f} [{low:.3f}, {high:.3f}]"


def verdicts(pairs: ImagePairs) -> dict[str, tuple[Floats, Flags]]:
    """Of each verdict, cross-fitted: how certain it is where it could be said, and if right."""
    there, stays = (cross_fitted(pairs, rows) for rows in (~pairs.before, pairs.before))
    now = pairs.now[pairs.before]
    return {
        "new": (there, pairs.now[~pairs.before]),
        "persists": (stays, now),
        "resolved": (1 - stays, ~now),
    }


def how_often_right(pairs: ImagePairs, limits: Mapping[str, float]) -> Iterator[str]:
    """A line for each verdict: how often it is said, and how often it is right then."""
    for verdict, (certainty, right) in verdicts(pairs).items():
        patients = pairs.patients[~pairs.before if verdict == "new" else pairs.before]
        said = certainty >= limits.get(verdict, np.inf)
        if said.any():
            share = _interval(patients[said], _share(right[said]))
            yield f"{verdict}: said {said.sum()} of {len(said)} times, right in {share}"


def _share(right: Flags) -> Weighted:
    return lambda weights: divide(weights @ right, weights.sum(axis=1))


def limit_of(certainty: Floats, right: Flags) -> float | None:
    """Lowest certainty from which enough verdicts are right; None where there is none."""
    for least in np.arange(0.5, 1.0, 0.01):
        said = certainty >= least
        if said.sum() < LEAST_SAID:
            break
        interval = binomtest(int(right[said].sum()), int(said.sum())).proportion_ci(method="wilson")
        if right[said].mean() >= LEAST_RIGHT and interval.low > SURELY_RIGHT:
            return round(float(least), 2)
    return None


def often_enough(pairs: ImagePairs) -> Flags:
    """Rows of findings that had either fate `LEAST_ROWS` times from the state they were in."""
    enough = np.zeros(len(pairs.now), bool)
    for name in np.unique(pairs.findings):
        for state in (pairs.before, ~pairs.before):
            rows = state & (pairs.findings == name)
            if min(pairs.now[rows].sum(), (~pairs.now[rows]).sum()) >= LEAST_ROWS:
                enough |= rows
    return enough


def model_of(pairs: ImagePairs, encoder_id: str) -> dict[str, Any]:
    """What `rag.change.read_change_model` reads: bias and slope by earlier state and finding."""
    names, weights = np.unique(pairs.findings), {}
    for state, rows in (("absent", ~pairs.before), ("present", pairs.before)):
        model = one_slope().fit(features(pairs)[rows], pairs.now[rows])
        slope, shifts = model.coef_[0][0], model.coef_[0][1:] + model.intercept_[0]
        biases = shifts - slope * means_of(pairs)
        weights[state] = {
            str(name): [round(float(bias), 3), round(float(slope), 3)]
            for name, bias in zip(names, biases, strict=True)
            if (pairs.findings[rows] == name).any()
        }
    limits = {name: limit_of(*each) for name, each in verdicts(pairs).items()}
    return {
        "format": VERSION,
        "encoder_id": encoder_id,
        "patients": len(np.unique(pairs.patients)),
        "rows": len(pairs.now),
        "limits": {name: limit for name, limit in limits.items() if limit is not None},
        "present_now": weights,
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
    chosen = parser.parse_args()
    folder = eclip_folder(chosen.encoder)
    if folder is None:
        parser.error(f"{chosen.encoder} has no folder of its own")
    encoder, head = load_encoder(chosen.encoder), read_finding_head(folder / HEAD_FILE)
    sources = {"text-mined": mined_images(chosen.data), "experts": expert_images(chosen.data)}
    patients = [images for each in sources.values() for images in each]
    measured = read_calibration(folder / CALIBRATION_FILE)
    odds = log_odds(patients, encoder, head, measured)
    pairs = {
        name: pairs_of(each, odds, head.names, blind=measured.not_assessable)
        for name, each in sources.items()
    }
    often = {name: each.only(often_enough(each)) for name, each in pairs.items()}
    model = model_of(often["experts"], encoder.encoder_id)
    for name, each in pairs.items():
        lines = [f"\n{name}: {len(np.unique(each.patients))} patients, {len(each.now)} rows\n"]
        lines += [*areas(each), "", *how_often_right(often[name], model["limits"])]
        sys.stdout.write("\n".join(lines) + "\n")
    if chosen.write:
        write_text_atomic(folder / CHANGE_FILE, json.dumps(model, indent=1) + "\n")


if __name__ == "__main__":
    main()

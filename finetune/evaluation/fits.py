"""What is fitted on the calibration pictures: temperature, choice of views, prediction sets. Pure
functions of arrays.

Arrays: probabilities [N, classes] (mean over views, before the temperature) and labels int [N].
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from zoo.contract.decision import Sets, temper
from zoo.contract.rejection import between
from zoo.picture.tta import VIEWS

SIGNIFICANT = 2.0
"""Views must lower the loss by this many standard errors of the paired difference."""
COLDEST = 0.05
"""Lowest temperature, its inverse the highest: beyond, answers are certain, or all classes the
same."""
LEAST = 30
"""Pictures below which a temperature means little: it is 1. (Of perfectly calibrated answers, 10
pictures fit a temperature that costs 0.04 nats on new ones, 40 cost 0.01.)"""
LEAST_FOR_VIEWS = 200
"""Pictures below which no views are measured: on 105 of them five views were chosen, which lost 1.7
points on test and took 5.5 times as long."""
CHEAP = ("flip",)
"""Views that are measured unless more are asked for: a default may cost at most twice the time."""


def fit_temperature(probabilities_NC: np.ndarray, labels_N: np.ndarray) -> float:
    """Find the temperature with the lowest cross-entropy, by L-BFGS; 1 where no other is better, or
    with fewer than LEAST pictures.

    1/(N + 2) of each target goes to the most probable other class, as in Platt's scaling (1999).
    """
    if len(labels_N) < LEAST:
        return 1.0
    tiny = np.finfo(np.float64).tiny
    log_p_NC = torch.from_numpy(np.log(np.maximum(probabilities_NC.astype(np.float64), tiny)))
    # N right answers do not prove that there is never a wrong one: without a rest for it, the
    # temperature of a few right answers would fall to 0
    labels, rest = torch.from_numpy(labels_N), 1 / (len(labels_N) + 2)
    runner_up = log_p_NC.scatter(1, labels[:, None], -math.inf).argmax(1)
    # the logarithm is fitted, so that the temperature stays positive
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        scaled = (log_p_NC / log_temperature.exp()).log_softmax(1)
        loss = -(1 - rest) * _picked(scaled, labels) - rest * _picked(scaled, runner_up)
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    temperature = min(max(log_temperature.exp().item(), COLDEST), 1 / COLDEST)
    # the targets of the fit are not those of the loss, so it may have made the loss worse
    plain_loss = loss_of(probabilities_NC, labels_N, 1.0)
    if loss_of(probabilities_NC, labels_N, temperature) > plain_loss:
        return 1.0
    return temperature


def _picked(log_p_NC: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return log_p_NC.gather(1, labels[:, None]).mean()


def losses(probabilities_NC: np.ndarray, labels_N: np.ndarray, temperature: float) -> np.ndarray:
    """Compute the cross-entropy of each picture in nats, [N]."""
    label_p = temper(probabilities_NC, temperature)[np.arange(len(labels_N)), labels_N]
    return -np.log(np.maximum(label_p, np.finfo(np.float64).tiny))


def loss_of(probabilities_NC: np.ndarray, labels_N: np.ndarray, temperature: float) -> float:
    """Compute the mean cross-entropy in nats."""
    return float(losses(probabilities_NC, labels_N, temperature).mean())


class Measured(NamedTuple):
    """Holds what one setting of views answers to the measured pictures."""

    predicted: np.ndarray
    """int [N]."""
    label_probability: np.ndarray
    """[N], at the setting's own temperature."""


def measure(probabilities_NC: np.ndarray, labels_N: np.ndarray) -> Measured:
    """Measure a setting of views at its own temperature, so that only what averaging gains beyond
    temperature scaling counts."""
    temperature = fit_temperature(probabilities_NC, labels_N)
    return Measured(
        probabilities_NC.argmax(1), np.exp(-losses(probabilities_NC, labels_N, temperature))
    )


def views_table(measured: Mapping[str, Measured], labels_N: np.ndarray) -> list[dict[str, Any]]:
    """Compare each setting with `none` on the same pictures, one row a setting."""
    plain = measured["none"]
    plain_right, plain_loss = plain.predicted == labels_N, -np.log(plain.label_probability)
    rows = []
    for name, views in measured.items():
        right, loss = views.predicted == labels_N, -np.log(views.label_probability)
        gain = plain_loss - loss
        gain_error = 0.0
        # one picture has no deviation
        if len(gain) > 1:
            gain_error = float(gain.std(ddof=1) / math.sqrt(len(gain)))
        rows.append(
            {
                "views": name,
                "passes": len(VIEWS[name]),
                "pictures": len(labels_N),
                "top1": float(right.mean()),
                "loss": float(loss.mean()),
                "gain": float(gain.mean()),
                "gain_error": gain_error,
                "only_it_right": int((right & ~plain_right).sum()),
                "only_none_right": int((plain_right & ~right).sum()),
            }
        )
    return rows


def choose_views(table: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Give (views, why): of the settings that gain, the cheapest whose gain is within a standard
    error of the largest.

    The one-standard-error rule of Breiman et al., "Classification and regression trees" (1984).
    None gains: none.
    """
    gained = list(filter(_gains, table))
    if not gained:
        return "none", (
            f"measured: no views lower the loss by more than {SIGNIFICANT:g} standard errors "
            "without losing right answers"
        )
    best = max(gained, key=lambda row: row["gain"])
    # within the error they may be equally good, and fewer passes answer sooner
    near = [row for row in gained if row["gain"] >= best["gain"] - best["gain_error"]]
    row = min(near, key=lambda row: (row["passes"], -row["gain"]))
    return row["views"], (
        f"measured: loss lower by {row['gain']:.4f} ± {row['gain_error']:.4f}, "
        f"{row['only_it_right']} more right and {row['only_none_right']} fewer"
    )


def _gains(row: Mapping[str, Any]) -> bool:
    """Tell whether views lower the loss by more than chance, and lose no right answers on
    balance."""
    significant = row["gain"] > SIGNIFICANT * row["gain_error"]
    loses_none = row["only_it_right"] >= row["only_none_right"]
    return bool(row["views"] != "none" and significant and loses_none)


def fit_sets(label_probability_N: np.ndarray, coverage: float) -> tuple[Sets, str | None]:
    """Fit split conformal prediction sets (least ambiguous sets: Sadinle, Lei and Wasserman, JASA
    2019); gives them and a warning.

    `label_probability_N`: probability of the true class of each calibration picture. With N
    pictures the true class is in the set with a probability of at least `coverage`; too few
    pictures give full sets.
    """
    # less by a hair, because a product such as 100 * 0.07 is a little more than 7
    needed = math.ceil((len(label_probability_N) + 1) * coverage - 1e-9)
    if needed > len(label_probability_N):
        least = math.ceil(coverage / (1 - coverage) * (1 - 1e-9))
        return Sets(coverage, 0.0), (
            f"{len(label_probability_N)} calibration pictures are too few for prediction sets "
            f"of {coverage:g} coverage (at least {least}): each set holds every class"
        )
    ordered = np.sort(label_probability_N)[::-1]
    return Sets(coverage, between([*ordered, ordered[-1] * (1 - 1e-6)], needed)), None

"""From a model's outputs to an answer, by what `decision.json` says. One code for training, export
and serving.

logits of each view -> softmax -> `average` -> `temper` -> probabilities
embedding -> `knn_distance` to the reference embeddings -> unknown score
probabilities, unknown score -> `answer`
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.contract import rundir
from zoo.files import fields
from zoo.host.errors import UserError, first_line
from zoo.picture import tta

BANK_KEY = "references"
"""Name of the tensor in `bank.safetensors`."""
HOTTEST = 1e6
"""Temperatures lie below; a fit gives 20 at most."""
MOST_NEIGHBOURS = 1_000_000
MOST_STAGES = 1_000
_FIT_AGAIN = "Copy the run folder again, or run python -m finetune.decide."


@dataclass(frozen=True)
class Early:
    """An earlier stage of the network, whose features are joined to the embedding: training changes
    them less, so that they still tell other pictures when the last ones know the classes only
    (tests/bench/RESULTS.md)."""

    stage: int
    """Which of the feature maps that timm's `forward_intermediates` gives, counted from 0."""
    shortest: tuple[float, float, float]
    """Each part is scaled to length 1, a shorter one than this to less: the network's own
    embedding, the mean of the stage over all places, and its standard deviation over them."""


@dataclass(frozen=True)
class Unknown:
    """When a picture counts as none of the classes."""

    neighbours: int
    """The score is the distance to this nearest reference embedding."""
    shortest: float
    """Embeddings are scaled to length 1, those shorter than this to less: weak features resemble
    nothing."""
    threshold: float
    """A larger score than this is unknown."""
    early: Early | None = None
    """None: the embedding is the network's own, as in runs of earlier versions."""


@dataclass(frozen=True)
class Sets:
    """Prediction sets: the true class is among them in at least this share of pictures like the
    calibration's."""

    coverage: float
    """Share asked for, in (0, 1)."""
    least_probability: float
    """Classes of at least this probability are in the set; 0 = all classes (too few pictures to
    calibrate)."""


@dataclass(frozen=True)
class Decision:
    """The content of `decision.json` that answers depend on. The default is the plain softmax of
    one view."""

    temperature: float = 1.0
    views: str = "none"
    """A name of `zoo.picture.tta.VIEWS`."""
    unknown: Unknown | None = None
    """None: every picture gets a class."""
    sets: Sets | None = None
    """None: no prediction sets."""

    @property
    def early(self) -> Early | None:
        """The stage that is joined to the embedding."""
        return self.unknown.early if self.unknown else None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(content: Mapping[str, Any], where: str = rundir.DECISION) -> "Decision":
        """Read what `to_json` gave; other keys tell how it was fitted and are not read. `UserError`
        for a wrong one."""
        try:
            decision = Decision(
                fields.number(content["temperature"], above=0, below=HOTTEST),
                content["views"],
                _unknown(content["unknown"]),
                _sets(content.get("sets")),
            )
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"{where}: expected temperature, views, unknown and sets as finetune writes them, "
                f"seen {fields.seen(content)} ({error!r}). Run python -m finetune.decide."
            ) from None
        if not isinstance(decision.views, str) or decision.views not in tta.VIEWS:
            raise UserError(
                f"{where}: expected views of {', '.join(tta.VIEWS)}, seen "
                f"{fields.seen(decision.views)}: update this program with pip."
            )
        return decision


def _unknown(content: Any) -> Unknown | None:
    if content is None:
        return None
    return Unknown(
        fields.whole(content["neighbours"], 1, MOST_NEIGHBOURS),
        fields.number(content["shortest"], above=0),
        fields.number(content["threshold"]),
        _early(content.get("early")),
    )


def _sets(content: Any) -> Sets | None:
    if content is None:
        return None
    return Sets(
        fields.number(content["coverage"], above=0, below=1),
        fields.number(content["least_probability"]),
    )


def _early(content: Any) -> Early | None:
    if content is None:
        return None
    pooled, mean, deviation = (fields.number(length, above=0) for length in content["shortest"])
    return Early(fields.whole(content["stage"], 0, MOST_STAGES), (pooled, mean, deviation))


def read(run: Path) -> Decision:
    """The decision of a run folder; `UserError` if it is missing or not readable."""
    return Decision.from_json(rundir.read_json(run / rundir.DECISION), str(run / rundir.DECISION))


def read_bank(run: Path, *, neighbours: int = 1) -> np.ndarray:
    """The reference embeddings of a run folder, float32 [references, D], rows of length 1.

    `neighbours`: of `Unknown`, as many as there must be. Raises `UserError` for a file that is
    missing, damaged, or holds anything else.
    """
    from safetensors import SafetensorError, safe_open

    path = run / rundir.BANK
    if not path.is_file():
        raise UserError(
            f"{path} is missing: expected the reference embeddings of a run. {_FIT_AGAIN}"
        )
    try:
        with safe_open(path, "numpy") as file:
            bank = file.get_tensor(BANK_KEY)
    except (SafetensorError, OSError, TypeError, ValueError, AttributeError, KeyError) as error:
        raise UserError(
            f"{path}: expected a safetensors file with {BANK_KEY}, seen: {first_line(error)}. "
            f"{_FIT_AGAIN}"
        ) from None
    if bank.dtype != np.float32 or bank.ndim != 2 or len(bank) < neighbours or not bank.size:
        raise UserError(
            f"{path}: expected {BANK_KEY} as float32 [references, D] with {neighbours} references "
            f"at least, seen {bank.dtype} {list(bank.shape)}. {_FIT_AGAIN}"
        )
    if not np.isfinite(bank).all():
        raise UserError(f"{path}: expected finite numbers, seen infinite ones or NaN. {_FIT_AGAIN}")
    return bank


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis, float64."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(-1, keepdims=True)


def average(logits_NVC: np.ndarray) -> np.ndarray:
    """Mean of the views' probabilities: [N, views, C] -> float64 [N, C]."""
    return softmax(logits_NVC).mean(1)


def temper(probabilities_NC: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(log p / temperature), float64; their order stays. For one view this is temperature
    scaling of logits (Guo et al., "On calibration of modern neural networks", ICML 2017)."""
    tiny = np.finfo(np.float64).tiny
    return softmax(np.log(np.maximum(probabilities_NC, tiny)) / temperature)


def unit(embedding_ND: np.ndarray, shortest: float = 1e-12) -> np.ndarray:
    """Rows scaled to length 1, float32; rows shorter than `shortest` are divided by that
    instead."""
    length_N1 = np.linalg.norm(embedding_ND.astype(np.float32), axis=1, keepdims=True)
    return embedding_ND.astype(np.float32) / np.maximum(length_N1, np.float32(shortest))


def knn_distance(
    embedding_ND: np.ndarray, bank_MD: np.ndarray, neighbours: int, shortest: float
) -> np.ndarray:
    """Cosine distance to the `neighbours`-th nearest row of the bank, float32 [N] in [0, 2];
    `bank_MD` has unit rows.

    Sun et al., "Out-of-distribution detection with deep nearest neighbors", ICML 2022. `shortest`
    is our addition:
    noise has weak features, whose direction alone can be that of some class
    (tests/bench/RESULTS.md).
    """
    assert 1 <= neighbours <= len(bank_MD), (
        f"the {neighbours}th nearest of {len(bank_MD)} references"
    )
    similarity_NM = unit(embedding_ND, shortest) @ bank_MD.T
    place = similarity_NM.shape[1] - neighbours
    return 1 - np.partition(similarity_NM, place, axis=1)[:, place]


def in_set(probabilities_NC: np.ndarray, sets: Sets) -> np.ndarray:
    """bool [N, C]: the classes of each picture's prediction set; the most probable is always in
    it."""
    most = probabilities_NC.argmax(1)[:, None] == np.arange(probabilities_NC.shape[1])
    return most | (probabilities_NC >= sets.least_probability)


@dataclass(frozen=True)
class Answer:
    """What is said about one picture."""

    label: str | None
    """The most probable class; None = unknown."""
    top: tuple[tuple[str, float], ...]
    """Nearest classes with their probability, the most probable first."""
    unknown_score: float | None
    """None: the model has no unknown score."""
    prediction_set: tuple[str, ...] | None
    """Classes that hold the true one with the asked-for coverage, most probable first; None: not
    calibrated."""


def answer(
    probabilities_C: np.ndarray,
    unknown_score: float | None,
    labels: Sequence[str],
    decision: Decision,
    *,
    top: int = 5,
) -> Answer:
    """Apply the decision to one picture: its probabilities (views averaged, tempered) and its
    unknown score."""
    assert decision.unknown is None or unknown_score is not None, "a threshold needs a score"
    order = np.argsort(-probabilities_C, kind="stable")
    named = tuple((labels[c], float(probabilities_C[c])) for c in order[:top])
    members = None
    if decision.sets is not None:
        inside = in_set(probabilities_C[None], decision.sets)[0]
        members = tuple(labels[c] for c in order if inside[c])
    label: str | None = named[0][0]
    if decision.unknown is None or unknown_score is None:
        return Answer(label, named, None, members)
    if not unknown_score <= decision.unknown.threshold:  # also NaN
        label = None
    return Answer(label, named, unknown_score, members)

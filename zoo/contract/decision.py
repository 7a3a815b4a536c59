"""How a model's outputs become an answer, by the rules of `decision.json`. Training, export and
serving all run this code.

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
from zoo.files import checks
from zoo.host.errors import UserError, first_line
from zoo.picture import tta

BANK_KEY = "references"
"""Name of the tensor in `bank.safetensors`."""
HOTTEST = 1e6
"""A temperature in a file must lie below this; a fit gives 20 at most."""
MOST_NEIGHBOURS = 1_000_000
MOST_STAGES = 1_000
"""Like `HOTTEST`, bounds for numbers in a file that may be damaged; no run comes near them."""
_FIT_AGAIN = "Copy the run folder again, or run python -m finetune.decide."


@dataclass(frozen=True)
class Early:
    """An earlier stage of the network, whose features are joined to the embedding.

    Training changes them less than the last features. They still tell foreign pictures apart when
    the last features only distinguish the classes (tests/bench/RESULTS.md).
    """

    stage: int
    """Index, from 0, among the feature maps that timm's `forward_intermediates` gives."""
    shortest: tuple[float, float, float]
    """Lengths of three parts: the network's own embedding, the mean of the stage over all places,
    and its standard deviation over them. Each part is divided by its length, or by this if it is
    shorter, so that a weak part counts less."""


@dataclass(frozen=True)
class Unknown:
    """The rule by which a picture is called none of the classes."""

    neighbours: int
    """Rank k: the score is the distance to the k-th nearest reference embedding."""
    shortest: float
    """Embeddings are divided by their length, or by this if they are shorter: weak features should
    resemble nothing."""
    threshold: float
    """A picture with a larger score than this is unknown."""
    early: Early | None = None
    """The stage that is joined to the embedding; None, as in runs of earlier versions: the
    embedding is the network's own."""


@dataclass(frozen=True)
class Sets:
    """The rule of prediction sets: of pictures like those of the calibration, at least a share of
    `coverage` have their true class in their set."""

    coverage: float
    """The share that was asked for, in (0, 1)."""
    least_probability: float
    """Classes of at least this probability are in the set; 0 = all classes, where too few pictures
    were there to calibrate it."""


@dataclass(frozen=True)
class Decision:
    """The part of `decision.json` that answers depend on. The default is the plain softmax of one
    view."""

    temperature: float = 1.0
    views: str = "none"
    """A name of `zoo.picture.tta.VIEWS`."""
    unknown: Unknown | None = None
    """None: every picture gets a class."""
    sets: Sets | None = None
    """None: no prediction sets."""

    @property
    def early(self) -> Early | None:
        """The stage that is joined to the embedding, if there is one."""
        return self.unknown.early if self.unknown else None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(content: Mapping[str, Any], where: str = rundir.DECISION) -> "Decision":
        """Read what `to_json` gave; `where` is the file that errors name.

        Other keys say how the values were fitted, and are not read. Raises `UserError` for a value
        that is missing or out of range.
        """
        try:
            decision = Decision(
                checks.number(content["temperature"], above=0, below=HOTTEST),
                content["views"],
                _unknown(content["unknown"]),
                _sets(content.get("sets")),
            )
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"{where}: expected temperature, views, unknown and sets as finetune writes them, "
                f"seen {checks.seen(content)} ({error!r}). Run python -m finetune.decide."
            ) from None
        # its type first: a list cannot be looked up in a dict
        if not isinstance(decision.views, str) or decision.views not in tta.VIEWS:
            raise UserError(
                f"{where}: expected views of {', '.join(tta.VIEWS)}, seen "
                f"{checks.seen(decision.views)}: update this program with pip."
            )
        return decision


def _unknown(content: Any) -> Unknown | None:
    if content is None:
        return None
    return Unknown(
        checks.whole(content["neighbours"], 1, MOST_NEIGHBOURS),
        checks.number(content["shortest"], above=0),
        checks.number(content["threshold"]),
        _early(content.get("early")),
    )


def _sets(content: Any) -> Sets | None:
    if content is None:
        return None
    return Sets(
        checks.number(content["coverage"], above=0, below=1),
        checks.number(content["least_probability"]),
    )


def _early(content: Any) -> Early | None:
    if content is None:
        return None
    pooled, mean, deviation = (checks.number(length, above=0) for length in content["shortest"])
    return Early(checks.whole(content["stage"], 0, MOST_STAGES), (pooled, mean, deviation))


def read_decision(run: Path) -> Decision:
    """Read the decision of a run folder; `UserError` if it is missing or not readable."""
    return Decision.from_json(rundir.read_json(run / rundir.DECISION), str(run / rundir.DECISION))


def read_bank(run: Path, *, neighbours: int = 1) -> np.ndarray:
    """Read the reference embeddings of a run folder, float32 [references, D], rows of length 1.

    There must be at least `neighbours` of them (`Unknown.neighbours`). Raises `UserError` for a
    file that is missing or damaged, or that holds anything else.
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
    # a distance to NaN would call every picture unknown, or none
    if not np.isfinite(bank).all():
        raise UserError(f"{path}: expected finite numbers, seen infinite ones or NaN. {_FIT_AGAIN}")
    return bank


def softmax(logits: np.ndarray) -> np.ndarray:
    """Compute probabilities over the last axis, float64."""
    # exponentials of large logits would overflow
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(-1, keepdims=True)


def average(logits_NVC: np.ndarray) -> np.ndarray:
    """Average the probabilities of the views: [N, views, C] -> float64 [N, C]."""
    return softmax(logits_NVC).mean(1)


def temper(probabilities_NC: np.ndarray, temperature: float) -> np.ndarray:
    """Compute softmax(log p / temperature), float64; the order of the classes stays.

    For one view this is temperature scaling of logits (Guo et al., "On calibration of modern neural
    networks", ICML 2017).
    """
    # a probability of 0 has no logarithm
    tiny = np.finfo(np.float64).tiny
    return softmax(np.log(np.maximum(probabilities_NC, tiny)) / temperature)


def unit(embedding_ND: np.ndarray, shortest: float = 1e-12) -> np.ndarray:
    """Scale rows to length 1, float32; a row shorter than `shortest` is divided by that instead."""
    length_N1 = np.linalg.norm(embedding_ND.astype(np.float32), axis=1, keepdims=True)
    return embedding_ND.astype(np.float32) / np.maximum(length_N1, np.float32(shortest))


def knn_distance(
    embedding_ND: np.ndarray, bank_MD: np.ndarray, neighbours: int, shortest: float
) -> np.ndarray:
    """Compute the cosine distance to the `neighbours`-th nearest row of the bank, float32 [N] in
    [0, 2].

    `bank_MD` has rows of length 1. The method is that of Sun et al., "Out-of-distribution detection
    with deep nearest neighbors", ICML 2022. `shortest` is our addition: noise has weak features,
    whose direction alone can be that of some class (tests/bench/RESULTS.md).
    """
    assert 1 <= neighbours <= len(bank_MD), (
        f"the {neighbours}th nearest of {len(bank_MD)} references"
    )
    similarity_NM = unit(embedding_ND, shortest) @ bank_MD.T
    # partition, not sort: only the k-th largest similarity is needed
    place = similarity_NM.shape[1] - neighbours
    return 1 - np.partition(similarity_NM, place, axis=1)[:, place]


def in_set(probabilities_NC: np.ndarray, sets: Sets) -> np.ndarray:
    """Tell which classes are in the prediction set of each picture, bool [N, C]; the most probable
    one always is."""
    most = probabilities_NC.argmax(1)[:, None] == np.arange(probabilities_NC.shape[1])
    # never empty, though by the rule alone it could be
    return most | (probabilities_NC >= sets.least_probability)


@dataclass(frozen=True)
class Answer:
    """The answer to one picture."""

    label: str | None
    """The most probable class; None: the picture is unknown."""
    top: tuple[tuple[str, float], ...]
    """Nearest classes with their probability, the most probable first."""
    unknown_score: float | None
    """None: the model has no unknown score."""
    prediction_set: tuple[str, ...] | None
    """Classes among which the true one is, with the coverage that was asked for; the most probable
    first. None: the model has no prediction sets."""


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
    # stable, so that classes of the same probability stand in the order of the labels everywhere
    order = np.argsort(-probabilities_C, kind="stable")
    nearest = tuple((labels[c], float(probabilities_C[c])) for c in order[:top])
    members = None
    if decision.sets is not None:
        inside = in_set(probabilities_C[None], decision.sets)[0]
        members = tuple(labels[c] for c in order if inside[c])
    label: str | None = nearest[0][0]
    if decision.unknown is None or unknown_score is None:
        return Answer(label, nearest, None, members)
    if not unknown_score <= decision.unknown.threshold:  # `not <=`, so that NaN is unknown too
        label = None
    return Answer(label, nearest, unknown_score, members)

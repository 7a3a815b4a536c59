"""The unknown answer of a file that rounds: references and threshold by its own embeddings, judged
beside the trained model's on the same pictures.

Rounding moves embeddings, int8's by more than the distance that tells a stranger from one's own. So
the file gets new references, in place of those that the trained model made. Where it still calls
other pictures unknown than the trained model does, it loses that answer, and says so.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from export.graph import onnx_file, pieces
from export.graph.deployed import Deployed
from export.proof import parity
from export.proof.judging import Labelled, Rung
from export.proof.trained_run import NOISE, Subject
from zoo.answer import onnx_runtime
from zoo.contract import bundle, decision, model_metadata, rejection
from zoo.contract.decision import Decision
from zoo.host import console

MOST = 1000
"""Pictures that the threshold is fitted on, and that it is judged on."""
POINTS, APART = 2.0, 0.02
"""What may lie between the two models: points of the share of own pictures that are called unknown,
and area under the ROC curve by which noise is told from them."""


@dataclass(frozen=True)
class Fitted:
    """The unknown answer of one file."""

    decision: Decision
    """With its own threshold; without an unknown answer if that is refused."""
    rungs: tuple[Rung, ...] = ()
    refused: str = ""
    """Why there is none, in words."""
    labelled_NC: np.ndarray | None = None
    """The probabilities that the file gives for `Subject.labelled`; None if it was not asked."""

    @property
    def status(self) -> str:
        """For bundle.json."""
        return f"no unknown answer: {self.refused}" if self.refused else "ok"


def fit(subject: Subject, deployed: Deployed, path: Path) -> Fitted:
    """Give the ONNX file in `path`, a form of `deployed`, references, threshold and description of
    its own."""
    known, bank = subject.parts.decision.unknown, subject.parts.bank
    if known is None or bank is None:
        return Fitted(subject.parts.decision)
    references = subject.training(len(bank))
    if len(references) < known.neighbours:
        fitted = Fitted(
            replace(subject.parts.decision, unknown=None),
            (),
            f"{len(references)} training pictures, {known.neighbours} are needed",
        )
    else:
        fitted = _fitted(subject, path, references)
    if fitted.decision.unknown is None:
        console.warn(f"{path.name} gives no unknown answer: {fitted.refused}")
        take_out(subject, deployed, path)
    else:
        description = subject.described(deployed, fitted.decision)
        onnx_file.save(onnx.load(path), path, model_metadata.metadata(description))
    return fitted


def take_out(subject: Subject, deployed: Deployed, path: Path) -> None:
    """Write the ONNX file in `path` without the unknown score, and without a threshold in what it
    says of itself."""
    description = subject.described(deployed, replace(subject.parts.decision, unknown=None))
    model = onnx_file.cut(onnx.load(path), [bundle.IMAGE], description["outputs"])
    onnx_file.save(model, path, model_metadata.metadata(description))


def _fitted(subject: Subject, path: Path, references: list[Path]) -> Fitted:
    known = subject.parts.decision.unknown
    assert known is not None
    session, _ = onnx_runtime.load(path, "cpu")
    answers = parity.run(session, [bundle.EMBEDDING], references, parity.TOGETHER)
    embedding_ND = answers[bundle.EMBEDDING]
    # parts of an embedding that are scaled one by one, and the length of the whole, are weights of
    # the file
    shortest = known.shortest if known.early else rejection.shortest_length(embedding_ND)
    model = onnx.load(path)
    onnx_file.set_weight(model, f"{pieces.ANSWER}/bank", decision.unit(embedding_ND).T)
    onnx_file.set_weight(model, f"{pieces.ANSWER}/shortest", np.float32(shortest))
    onnx_file.save(model, path)

    session, _ = onnx_runtime.load(path, "cpu")
    calibration = (subject.answered(("calibrate",)) or subject.validated)[:MOST]
    [scores] = _answers(session, [bundle.UNKNOWN_SCORE], calibration)
    threshold = rejection.threshold(scores)
    scores, labelled_NC = _answers(
        session, [bundle.UNKNOWN_SCORE, bundle.PROBABILITIES], subject.labelled
    )
    own = scores[:MOST]
    strangers = np.array(
        [
            session.run([bundle.UNKNOWN_SCORE], {bundle.IMAGE: np.asarray(picture)[None]})[0][0]
            for picture in rejection.noise(NOISE)
        ]
    )
    before = np.array([picture.unknown_score for picture in subject.labelled[:MOST]])

    points = 100 * abs(float((own > threshold).mean()) - float((before > known.threshold).mean()))
    less_apart = rejection.auroc(before, subject.noise_scores) - rejection.auroc(own, strangers)
    rungs = (
        Rung("own called unknown", POINTS, points, "", len(own)),
        Rung("noise told apart", APART, less_apart, "", NOISE),
    )
    if all(rung.verdict == "passed" for rung in rungs):
        own_answer = replace(known, shortest=shortest, threshold=threshold)
        own_decision = replace(subject.parts.decision, unknown=own_answer)
        return Fitted(own_decision, rungs, labelled_NC=labelled_NC)
    why = (
        f"of {len(own)} own pictures the share that it calls unknown is {points:.1f} points "
        f"from the trained model's (at most {POINTS:g}), and noise is told apart worse by "
        f"{less_apart:.3f} (at most {APART:g})"
    )
    reported = tuple(replace(rung, limit=None) for rung in rungs)
    return Fitted(replace(subject.parts.decision, unknown=None), reported, why, labelled_NC)


def _answers(session: Any, names: list[str], labelled: list[Labelled]) -> list[np.ndarray]:
    """These outputs for these pictures, a row each."""
    given = parity.run(session, names, [picture.path for picture in labelled], parity.TOGETHER)
    return [given[name] for name in names]

"""The unknown answer of a file that rounds: references and threshold by its own embeddings, judged
beside the trained model's on the same pictures.

Rounding moves embeddings, int8's by more than the distance that tells a stranger from one's own. So
the file gets new references, in place of those that the trained model made. Where it still calls
other pictures unknown than the trained model does, it loses that answer, and says so.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from export.graph import onnx_file, pieces
from export.graph.deployed import Deployed
from export.proof import sessions
from export.proof.judging import Labelled, Rung, paths_of
from export.proof.sessions import Session
from export.proof.trained_run import NOISE, TrainedRun
from zoo.answer import onnx_runtime
from zoo.contract import bundle, decision, model_metadata, rejection
from zoo.contract.decision import Decision, Unknown
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
    """The probabilities that the file gives for `TrainedRun.labelled`; None if it was not asked."""

    @property
    def status(self) -> str:
        """For bundle.json."""
        if not self.refused:
            return "ok"
        return f"no unknown answer: {self.refused}"


def fit(trained: TrainedRun, deployed: Deployed, path: Path) -> Fitted:
    """Give the ONNX file in `path`, a form of `deployed`, references, threshold and description of
    its own."""
    known, bank = trained.parts.decision.unknown, trained.parts.bank
    if known is None or bank is None:
        return Fitted(trained.parts.decision)
    references = trained.training(len(bank))
    if len(references) < known.neighbours:
        fitted = Fitted(
            replace(trained.parts.decision, unknown=None),
            (),
            f"{len(references)} training pictures, {known.neighbours} are needed",
        )
    else:
        fitted = _fitted(trained, path, references)
    if fitted.decision.unknown is None:
        console.warn(f"{path.name} gives no unknown answer: {fitted.refused}")
        take_out(trained, deployed, path)
    else:
        description = trained.described(deployed.outputs, fitted.decision)
        onnx_file.save(onnx.load(path), path, model_metadata.metadata(description))
    return fitted


def take_out(trained: TrainedRun, deployed: Deployed, path: Path) -> None:
    """Write the ONNX file in `path` without the unknown score, and without a threshold in what it
    says of itself."""
    description = trained.described(deployed.outputs, replace(trained.parts.decision, unknown=None))
    model = onnx_file.cut(onnx.load(path), [bundle.IMAGE], description["outputs"])
    onnx_file.save(model, path, model_metadata.metadata(description))


def _fitted(trained: TrainedRun, path: Path, references: list[Path]) -> Fitted:
    known = trained.parts.decision.unknown
    assert known is not None
    shortest = _set_references(path, references, known)
    session, _ = onnx_runtime.load_session(path, "cpu")
    # the half of val that training fitted its own threshold on
    calibration = (trained.answered(("calibrate",)) or trained.validated)[:MOST]
    [scores] = _answers(session, [bundle.UNKNOWN_SCORE], calibration)
    threshold = rejection.threshold(scores)
    scores, labelled_NC = _answers(
        session, [bundle.UNKNOWN_SCORE, bundle.PROBABILITIES], trained.labelled
    )
    # judged on test where there is one, not on what the threshold was fitted on
    rungs = _compared(trained, known, scores[:MOST], _noise_scores(session), threshold)
    if all(rung.verdict == "passed" for rung in rungs):
        own_answer = replace(known, shortest=shortest, threshold=threshold)
        own_decision = replace(trained.parts.decision, unknown=own_answer)
        return Fitted(own_decision, rungs, labelled_NC=labelled_NC)
    own, noise = rungs
    why = (
        f"of {own.pictures} own pictures the share that it calls unknown is {own.worst:.1f} points "
        f"from the trained model's (at most {POINTS:g}), and noise is told apart worse by "
        f"{noise.worst:.3f} (at most {APART:g})"
    )
    # without limits: the answer is left out, so that the file does not fail by it
    reported = tuple(replace(rung, limit=None) for rung in rungs)
    return Fitted(replace(trained.parts.decision, unknown=None), reported, why, labelled_NC)


def _compared(
    trained: TrainedRun, known: Unknown, own: np.ndarray, noise: np.ndarray, threshold: float
) -> tuple[Rung, Rung]:
    """How the scores of the file, for own pictures and for noise, do beside the trained model's."""
    before = np.array([picture.unknown_score for picture in trained.labelled[:MOST]])
    # both ways: calling fewer pictures unknown is another answer, too
    points = 100 * abs(float((own > threshold).mean()) - float((before > known.threshold).mean()))
    # signed: a file that tells noise apart better loses nothing
    less_apart = rejection.auroc(before, trained.noise_scores) - rejection.auroc(own, noise)
    return (
        Rung("own called unknown", POINTS, points, "", len(own)),
        Rung("noise told apart", APART, less_apart, "", NOISE),
    )


def _set_references(path: Path, references: list[Path], known: Unknown) -> float:
    """Put the file's own embeddings of these pictures in place of its references; the length below
    which it takes an embedding to be as long."""
    session, _ = onnx_runtime.load_session(path, "cpu")
    answers = sessions.run(session, [bundle.EMBEDDING], references, sessions.TOGETHER)
    embedding_ND = answers[bundle.EMBEDDING]
    # parts of an embedding that are scaled one by one, and the length of the whole, are weights of
    # the file
    shortest = known.shortest if known.early else rejection.shortest_length(embedding_ND)
    model = onnx.load(path)
    # transposed, as the graph multiplies by it
    onnx_file.set_weight(model, pieces.BANK, decision.unit(embedding_ND).T)
    onnx_file.set_weight(model, pieces.SHORTEST, np.float32(shortest))
    onnx_file.save(model, path)
    return shortest


def _noise_scores(session: Session) -> np.ndarray:
    """The unknown scores of pictures of noise."""
    scores = []
    for picture in rejection.noise(NOISE):
        [of_batch] = session.run([bundle.UNKNOWN_SCORE], {bundle.IMAGE: np.asarray(picture)[None]})
        scores.append(of_batch[0])
    return np.array(scores)


def _answers(session: Session, names: list[str], labelled: list[Labelled]) -> list[np.ndarray]:
    """These outputs for these pictures, a row each."""
    answers = sessions.run(session, names, paths_of(labelled), sessions.TOGETHER)
    return list(answers.values())

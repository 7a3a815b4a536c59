"""Prove one bundle: its model and the trained one answer the same pictures; what is not proved is
refused."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from export.graph.deployed import Deployed
from export.proof import (
    hard_pictures,
    judging,
    parity,
    parity_html,
    predictor_process,
    sessions,
)
from export.proof.judging import Labelled, Rung, Verdict
from export.proof.parity import ComparedPicture
from export.proof.product import Product
from export.proof.sessions import Session
from export.proof.torch_answer import TorchAnswer
from export.proof.trained_run import TrainedRun
from zoo.answer import onnx_runtime
from zoo.contract import bundle, rundir
from zoo.host import console
from zoo.host.errors import NotProved
from zoo.picture.decoding import without_metadata

EXAMPLES = 6
STYLES = {"failed": "bold red", "inconclusive": "yellow"}
"""How the console shows a rung, by its verdict."""


@dataclass(frozen=True)
class Evidence:
    """The run, the pictures of its proof, and what was found out about them already."""

    trained: TrainedRun
    folder: Path
    """Temporary: made pictures, and graphs that only the proof needs."""
    paths: dict[str, Path]
    """Name -> file: the user's own and the made ones."""
    examples: bool = True
    """Whether pictures of the user's may stand in bundles."""
    known: dict[str, TorchAnswer] = field(default_factory=dict)
    _compared: dict[tuple[object, ...], list[ComparedPicture]] = field(default_factory=dict)
    accept_inconclusive: bool = False
    """Whether a bundle is kept though there are too few pictures to judge it."""

    def compared(self, pixels: Deployed | None, provider: str) -> list[ComparedPicture]:
        """Return every picture as Pillow prepares it and as this graph does, run by `provider`;
        without a graph, only as Pillow does."""
        key: tuple[object, ...] = ()
        if pixels is not None:
            # what the pixels depend on; targets that prepare pictures alike share the comparison
            key = (pixels.prepare.matmul, pixels.prepare.exact, provider)
        if key not in self._compared:
            self._compared[key] = parity.compare_pictures(
                self.trained.parts, self._session(pixels, provider), self.paths, self.known
            )
        return self._compared[key]

    def _session(self, pixels: Deployed | None, provider: str) -> Session | None:
        """What gives the pixels of this graph."""
        if pixels is None:
            return None
        path = self.folder / f"pixels-{len(self._compared)}.onnx"
        with console.busy("exporting the pixels for the proof"):
            self.trained.pieces.write_pixels(pixels, path)
        session, _ = onnx_runtime.load_session(path, provider)
        loaded: Session = session
        return loaded


@dataclass(frozen=True)
class Proof:
    """How a bundle did."""

    rungs: list[Rung]
    pictures: list[ComparedPicture]
    outputs: dict[str, np.ndarray]
    """A row for each picture."""

    @property
    def failed(self) -> list[Rung]:
        """What failed, the worst first."""
        return sorted(self._with_verdict("failed"), key=lambda rung: -rung.excess)

    @property
    def inconclusive(self) -> list[Rung]:
        """What has too few pictures to tell."""
        return self._with_verdict("inconclusive")

    def _with_verdict(self, verdict: Verdict) -> list[Rung]:
        return [rung for rung in self.rungs if rung.verdict == verdict]


@contextmanager
def gather(
    trained: TrainedRun, *, examples: bool, accept_inconclusive: bool = False
) -> Iterator[Evidence]:
    """Make the pictures that every target must answer, for as long as the exports take."""
    with tempfile.TemporaryDirectory() as temporary:
        hard = Path(temporary) / "made"
        hard.mkdir()
        paths = dict(trained.pictures)
        for path in hard_pictures.write_pictures(hard):
            paths[f"made {path.name}"] = path
        yield Evidence(
            trained,
            Path(temporary),
            paths,
            examples,
            accept_inconclusive=accept_inconclusive,
        )


def prove(evidence: Evidence, folder: Path, product: Product, precision: str) -> Proof:
    """Compare the bundle in `folder` with the trained model, and write `parity.json` and the page
    beside it."""
    # only for a precision that rounds: to answer thousands of pictures takes minutes
    labelled = evidence.trained.labelled if precision in judging.LOST_POINTS else []
    provider = onnx_runtime.provider_of(folder / product.model)
    pictures = evidence.compared(product.pixels, provider)
    # in a process without torch, as the file will be used
    outputs = predictor_process.predicted(folder, list(evidence.paths.values()))
    rungs = []
    if product.plain:
        rungs.append(parity.core(product.plain, pictures))
    if product.pixels is not None:
        rungs += parity.pixels(pictures, by_products=product.pixels.prepare.matmul)
    rungs += parity.compare_outputs(pictures, outputs, judged=not labelled)
    if labelled:
        rungs.append(_accuracy(evidence, folder, product, precision))
    if product.engine:
        rungs += by_engine(product.engine, product.outputs, pictures, evidence, labelled, precision)
    proof = Proof([*rungs, *product.rungs], pictures, outputs)
    write_proof(evidence, folder, proof, precision=precision, provider=provider)
    return proof


def _accuracy(evidence: Evidence, folder: Path, product: Product, precision: str) -> Rung:
    """The rung of the file's answers to labelled pictures, which are asked for at most once."""
    trained, p_NC = evidence.trained, product.labelled_NC
    if p_NC is None:
        session, _ = onnx_runtime.load_session(folder / product.model, "cpu")
        p_NC = sessions.probabilities(session, trained.labelled)
    return parity.accuracy(precision, trained.may_lose(precision), trained.labelled, p_NC)


def by_engine(
    engine: Session,
    names: Sequence[str],
    pictures: Sequence[ComparedPicture],
    evidence: Evidence,
    labelled: Sequence[Labelled],
    precision: str,
) -> list[Rung]:
    """Return the same rungs for the engine, which runs on the GPU of this machine."""
    outputs = sessions.run(engine, names, list(evidence.paths.values()), sessions.BATCHES)
    rungs = parity.compare_outputs(pictures, outputs, judged=not labelled)
    if labelled:
        p_NC = sessions.probabilities(engine, labelled, batches=(1,))
        limit = evidence.trained.may_lose(precision)
        rungs.append(parity.accuracy(precision, limit, labelled, p_NC))
    return [replace(rung, name=f"engine: {rung.name}") for rung in rungs]


def write_proof(
    evidence: Evidence, folder: Path, proof: Proof, *, precision: str, provider: str
) -> None:
    """Write `parity.json` and `parity.html`; `provider`: what ran the file."""
    own = evidence.trained.pictures
    rundir.write_json(
        folder / bundle.PARITY,
        {
            "precision": precision,
            "provider": provider,
            "rungs": judging.rungs_json(proof.rungs),
            "own": len(own),
            "made": len(evidence.paths) - len(own),
            "pictures_sha256": {name: rundir.digest(path) for name, path in own.items()},
        },
    )
    shown = dict(evidence.paths)
    # --no-examples: then no picture of the user's may stand in the page either
    if not evidence.examples:
        for name in own:
            shown.pop(name, None)
    rundir.write_text(
        folder / bundle.PARITY_PAGE, parity_html.page(evidence.trained.labels, shown, proof)
    )


def report(rungs: Sequence[Rung]) -> None:
    """Print one line for each comparison."""
    for rung in rungs:
        limit = "no limit" if rung.limit is None else f"limit {rung.limit:g}"
        what = "points lost" if "accuracy" in rung.name else "worst"
        worst, same = f"{rung.worst:.2g}", ""
        if rung.standard_error:
            worst += f" ± {rung.spread:.2f}"
        if rung.agreement is not None:
            same = f", {rung.agreement:.1%} of the answers the same"
        console.say(
            f"  {rung.verdict:<12}  {rung.name:<16} {what} {worst} ({limit}), "
            f"{rung.pictures} pictures{same}",
            style=STYLES.get(rung.verdict),
        )


def refuse(evidence: Evidence, folder: Path, proof: Proof, advice: str) -> NotProved:
    """Return the error of what failed, or else of what has too few pictures."""
    verdict = "it cannot be told whether the exported model answers like the trained one"
    if proof.failed:
        verdict = "the exported model does not answer like the trained one"
    worst = (proof.failed or proof.inconclusive)[0]
    seen = f"{worst.name} differs by {worst.worst:.3g} on {worst.picture}"
    if worst.name.endswith("accuracy"):  # of the file, or of the engine made from it
        seen = f"it loses {worst.lost}"
        if worst.name.startswith("engine"):
            seen = f"its engine loses {worst.lost}"
    kept = ""
    # an estimate over many pictures has none that it was seen on
    if worst.picture in evidence.paths:
        kept = f", the picture is {_kept(evidence.paths[worst.picture], folder)}"
    return NotProved(
        f"{verdict}: {seen}, expected at most {worst.limit or 0:g}. The bundle is not finished; "
        f"numbers in {folder / bundle.PARITY}, both answers to the pictures that differ most in "
        f"{folder / bundle.PARITY_PAGE}{kept}. {advice}"
    )


def _kept(picture: Path, folder: Path) -> Path:
    """A copy of the picture that differs most, beside the numbers, also with `--no-examples`:
    nobody gets it."""
    suffix, content = without_metadata(picture)
    copied = folder / f"differs_most{suffix}"
    copied.write_bytes(content)
    return copied


def write_examples(evidence: Evidence, folder: Path, proof: Proof) -> None:
    """Write some validation pictures, without their metadata, and what the bundle answered to them
    where it was made."""
    trained = evidence.trained
    (folder / bundle.EXAMPLES).mkdir()
    expected: dict[str, dict[str, Any]] = {}
    scores = proof.outputs.get(bundle.UNKNOWN_SCORE)
    for place, path in enumerate(list(trained.pictures.values())[:EXAMPLES]):
        p_C = proof.outputs[bundle.PROBABILITIES][place]
        suffix, content = without_metadata(path)
        # numbered: names of the user's pictures stay out of the bundle
        name = f"{len(expected) + 1}{suffix}"
        (folder / bundle.EXAMPLES / name).write_bytes(content)
        expected[name] = {
            "label": trained.labels[int(p_C.argmax())],
            "probability": float(p_C.max()),
            # 6 digits: far below what the comparison on another machine allows
            "probabilities": [round(float(p), 6) for p in p_C],
        }
        if scores is not None:
            expected[name]["unknown_score"] = round(float(scores[place]), 6)
    rundir.write_json(folder / bundle.EXAMPLES / bundle.EXPECTED, expected)

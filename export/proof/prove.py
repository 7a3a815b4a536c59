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
from export.proof import hard_pictures, judging, page, parity
from export.proof.judging import Labelled, Rung
from export.proof.parity import Answered, Compared
from export.proof.trained_run import Made, Subject
from zoo.answer import onnx_runtime
from zoo.contract import bundle, rundir
from zoo.host import console
from zoo.host.errors import NotProved
from zoo.picture.decoding import without_metadata

EXAMPLES = 6


@dataclass(frozen=True)
class Evidence:
    """The pictures of a proof, and what was found out about them already."""

    subject: Subject
    folder: Path
    """Temporary: made pictures, and graphs that only the proof needs."""
    paths: dict[str, Path]
    """Name -> file: the user's own and the made ones."""
    examples: bool = True
    """Whether pictures of the user's may stand in bundles."""
    known: dict[str, Answered] = field(default_factory=dict)
    _compared: dict[tuple[object, ...], list[Compared]] = field(default_factory=dict)
    accept_inconclusive: bool = False
    """Whether a bundle is kept though there are too few pictures to judge it."""

    def compared(self, deployed: Deployed, provider: str) -> list[Compared]:
        """Every picture as Pillow prepares it and as this graph does, run by `provider`."""
        key = (deployed.prepare.matmul, deployed.prepare.exact, provider)
        if key not in self._compared:
            path = self.folder / f"pixels-{len(self._compared)}.onnx"
            with console.busy("exporting the pixels for the proof"):
                self.subject.pieces.write_pixels(deployed, path)
            session, _ = onnx_runtime.load(path, provider)
            self._compared[key] = parity.compared(
                self.subject.parts, session, self.paths, self.known
            )
        return self._compared[key]


@dataclass(frozen=True)
class Proof:
    """How a bundle did."""

    rungs: list[Rung]
    pictures: list[Compared]
    outputs: dict[str, np.ndarray]
    """A row for each picture."""

    @property
    def failed(self) -> list[Rung]:
        """What failed, the worst first."""
        return sorted(
            (rung for rung in self.rungs if rung.verdict == "failed"), key=lambda rung: -rung.excess
        )

    @property
    def inconclusive(self) -> list[Rung]:
        """What has too few pictures to tell."""
        return [rung for rung in self.rungs if rung.verdict == "inconclusive"]


@contextmanager
def gather(
    subject: Subject, *, examples: bool, accept_inconclusive: bool = False
) -> Iterator[Evidence]:
    """The pictures that every target must answer, for as long as the exports take."""
    with tempfile.TemporaryDirectory() as temporary:
        hard = Path(temporary) / "made"
        hard.mkdir()
        own, made = dict(subject.pictures), hard_pictures.write(hard)
        yield Evidence(
            subject,
            Path(temporary),
            own | {f"made {path.name}": path for path in made},
            examples,
            accept_inconclusive=accept_inconclusive,
        )


def prove(evidence: Evidence, folder: Path, product: Made, precision: str) -> Proof:
    """Compare the bundle in `folder` with the trained model, and write `parity.json` and the page
    beside it."""
    subject, deployed = evidence.subject, product.deployed
    labelled = subject.labelled if precision in judging.LOST_POINTS else []
    provider = onnx_runtime.provider_of(folder / product.model)
    pictures = evidence.compared(deployed, provider)
    outputs = parity.predicted(folder, list(evidence.paths.values()))
    rungs = parity.pixels(pictures, by_products=deployed.prepare.matmul)
    rungs += parity.compare(pictures, outputs, judged=not labelled)
    if product.plain:
        rungs.insert(0, parity.core(product.plain, pictures))
    if labelled:
        p_NC = product.labelled_NC
        if p_NC is None:
            session, _ = onnx_runtime.load(folder / product.model, "cpu")
            p_NC = parity.probabilities(session, labelled)
        rungs.append(parity.accuracy(precision, subject.may_lose(precision), labelled, p_NC))
    if product.engine:
        rungs += by_engine(product, pictures, evidence, labelled, precision)
    proof = Proof([*rungs, *product.rungs], pictures, outputs)
    write(evidence, folder, proof, precision=precision, provider=provider)
    return proof


def by_engine(
    product: Made,
    pictures: Sequence[Compared],
    evidence: Evidence,
    labelled: Sequence[Labelled],
    precision: str,
) -> list[Rung]:
    """The same rungs for the engine, which runs on the GPU of this machine."""
    names = product.deployed.outputs
    given = parity.run(product.engine, names, list(evidence.paths.values()), parity.BATCHES)
    rungs = parity.compare(pictures, given, judged=not labelled)
    if labelled:
        p_NC = parity.run(product.engine, names, [one.path for one in labelled])[
            bundle.PROBABILITIES
        ]
        rungs.append(
            parity.accuracy(precision, evidence.subject.may_lose(precision), labelled, p_NC)
        )
    return [replace(rung, name=f"engine: {rung.name}") for rung in rungs]


def write(evidence: Evidence, folder: Path, proof: Proof, *, precision: str, provider: str) -> None:
    """`parity.json` and `parity.html`; `provider`: what ran the file."""
    own = evidence.subject.pictures
    rundir.write_json(
        folder / bundle.PARITY,
        {
            "precision": precision,
            "provider": provider,
            "rungs": judging.to_json(proof.rungs),
            "own": len(own),
            "made": len(evidence.paths) - len(own),
            "pictures_sha256": {name: rundir.digest(path) for name, path in own.items()},
        },
    )
    shown = {
        name: path for name, path in evidence.paths.items() if evidence.examples or name not in own
    }
    rundir.write_text(folder / bundle.PARITY_PAGE, page.page(evidence.subject.labels, shown, proof))


def report(rungs: Sequence[Rung]) -> None:
    """One line for each comparison."""
    for rung in rungs:
        limit = "no limit" if rung.limit is None else f"limit {rung.limit:g}"
        what = "points lost" if "accuracy" in rung.name else "worst"
        spread = f" ± {rung.spread:.2f}" if rung.standard_error else ""
        same = "" if rung.agreement is None else f", {rung.agreement:.1%} of the answers the same"
        console.say(
            f"  {rung.verdict:<12}  {rung.name:<16} {what} {rung.worst:.2g}{spread} ({limit}), "
            f"{rung.pictures} pictures{same}",
            style={"failed": "bold red", "inconclusive": "yellow"}.get(rung.verdict),
        )


def refuse(evidence: Evidence, folder: Path, proof: Proof, advice: str) -> NotProved:
    """The error of what failed, or else of what has too few pictures.

    The picture that differs most is kept beside the numbers, also with `--no-examples`: nobody gets
    it.
    """
    worst = (proof.failed or proof.inconclusive)[0]
    limit = f"{worst.limit or 0:g}"
    if worst.name.endswith("accuracy"):  # of the file, or of the engine made from it
        who = "its engine" if worst.name.startswith("engine") else "it"
        seen = f"{who} loses {worst.lost}"
    else:
        seen = f"{worst.name} differs by {worst.worst:.3g} on {worst.picture}"
    kept = ""
    if worst.picture in evidence.paths:
        suffix, content = without_metadata(evidence.paths[worst.picture])
        copied = folder / f"differs_most{suffix}"
        copied.write_bytes(content)
        kept = f", the picture is {copied}"
    told = (
        "it cannot be told whether the exported model answers like the trained one"
        if not proof.failed
        else "the exported model does not answer like the trained one"
    )
    return NotProved(
        f"{told}: {seen}, expected at most {limit}. The bundle is not finished; numbers in "
        f"{folder / bundle.PARITY}, both answers to the pictures that differ most in "
        f"{folder / bundle.PARITY_PAGE}{kept}. {advice}"
    )


def write_examples(evidence: Evidence, folder: Path, proof: Proof) -> None:
    """Some validation pictures, without their metadata, and what the bundle answered to them where
    it was made."""
    subject = evidence.subject
    (folder / bundle.EXAMPLES).mkdir()
    expected: dict[str, dict[str, Any]] = {}
    scores = proof.outputs.get(bundle.UNKNOWN_SCORE)
    for place, path in enumerate(list(subject.pictures.values())[:EXAMPLES]):
        p_C = proof.outputs[bundle.PROBABILITIES][place]
        suffix, content = without_metadata(path)
        name = f"{len(expected) + 1}{suffix}"
        (folder / bundle.EXAMPLES / name).write_bytes(content)
        expected[name] = {
            "label": subject.labels[int(p_C.argmax())],
            "probability": float(p_C.max()),
            "probabilities": [round(float(p), 6) for p in p_C],
        }
        if scores is not None:
            expected[name]["unknown_score"] = round(float(scores[place]), 6)
    rundir.write_json(folder / bundle.EXAMPLES / bundle.EXPECTED, expected)

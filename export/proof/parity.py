"""The comparisons by which an exported file is shown to answer like the trained model.

The reference is what Pillow, torch and `zoo/contract/decision.py` compute. `zoo/predictor.py`, the
code that serves, runs the exported file on the same pictures, in a process without torch. Where a
precision rounds, its accuracy on labelled pictures is compared too, by ONNX Runtime in this
process. A comparison is called a rung: it compares one thing, and has one limit.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.graph.deployed import DeployedParts
from export.graph.pieces import PIXEL_VALUES, WINDOWS
from export.proof import torch_answer
from export.proof.judging import LIMITS, TINY, Labelled, Rung, relative, rung_of
from export.proof.sessions import BATCHES, Session
from export.proof.torch_answer import TorchAnswer
from zoo.answer import onnx_runtime
from zoo.contract import bundle
from zoo.host import console
from zoo.network import class_maps
from zoo.picture import tta
from zoo.picture.decoding import decode

MARGIN = 0.01
"""Top-1 is compared only where the probabilities of the first two classes differ by more than this:
nearer ones may change places by rounding."""


@dataclass(frozen=True)
class ComparedPicture:
    """One picture, as Pillow prepares it and as the graph prepares it."""

    name: str
    levels: float
    """Largest difference between the pixels of the two, in levels of 255."""
    off_by_2: float
    """Share of the values that differ by more than one level."""
    reference: TorchAnswer
    """The trained model's answer to Pillow's pixels."""
    same_pixels: TorchAnswer
    """The trained model's answer to the graph's pixels; against it, what follows the resizing is
    compared by itself."""

    @property
    def moved(self) -> float:
        """The most by which resizing alone changes a probability."""
        pillow_C = self.reference.outputs[bundle.PROBABILITIES]
        graph_C = self.same_pixels.outputs[bundle.PROBABILITIES]
        return float(np.abs(pillow_C - graph_C).max())


def compare_pictures(
    parts: DeployedParts,
    session: Session | None,
    paths: Mapping[str, Path],
    references: dict[str, TorchAnswer] | None = None,
) -> list[ComparedPicture]:
    """Prepare every picture (name -> file) by Pillow and by the graph, and let torch answer both.

    `session` gives the graph's windows before normalisation. Where it is None they cannot be had,
    and Pillow's pixels take their place. `references` caches torch's answers to Pillow's pixels by
    name; answers that are missing are added, so that the next target need not compute them again.
    """
    if references is None:
        references = {}
    has_map = class_maps.has_map(parts.model, parts.pre.size)
    pictures = []
    for name, path in console.track(list(paths.items()), "comparing pictures"):
        picture = decode(path)
        pixels = tta.prepare_views(picture, parts.pre, tta.VIEWS[parts.decision.views])
        if name not in references:
            references[name] = torch_answer.answer_by_torch(parts, pixels, has_map=has_map)
        reference = references[name]
        if session is None:
            pictures.append(ComparedPicture(name, 0.0, 0.0, reference, reference))
            continue
        # one at a time: pictures differ in size
        [windows] = session.run([WINDOWS], {bundle.IMAGE: np.asarray(picture)[None]})
        graph_pixels = windows.transpose(0, 2, 3, 1)
        difference = np.abs(graph_pixels - pixels.astype(np.float32))
        levels, off_by_2 = float(difference.max()), float((difference > 1).mean())
        same_pixels = reference
        if levels != 0:
            # whole numbers already, as floats
            rounded = graph_pixels.round().astype(np.uint8)
            same_pixels = torch_answer.answer_by_torch(parts, rounded, has_map=has_map)
        pictures.append(ComparedPicture(name, levels, off_by_2, reference, same_pixels))
    return pictures


def compare_outputs(
    pictures: Sequence[ComparedPicture], outputs: Mapping[str, np.ndarray], *, judged: bool = True
) -> list[Rung]:
    """Return the rungs of the outputs, from the bytes of a picture to its answer.

    `outputs` has a row for each picture. Without `judged`, the rungs have no limits.
    """
    expected_NC = expected_probabilities(pictures)
    exported_NC = outputs[bundle.PROBABILITIES]
    clear = _clear(expected_NC)
    changed = clear & (expected_NC.argmax(1) != exported_NC.argmax(1))
    differences = {
        bundle.PROBABILITIES: np.abs(expected_NC - exported_NC).max(1),
        # summed up, so that its largest value is the number of changed classes
        "top-1": np.cumsum(changed),
    }
    for name in (bundle.UNKNOWN_SCORE, bundle.EMBEDDING, bundle.HEATMAP):
        if name in outputs:
            differences[name] = _of_same_pixels(name, pictures, outputs[name], clear)
    names = _names(pictures)
    return [rung_of(name, values, names, judged=judged) for name, values in differences.items()]


def expected_probabilities(pictures: Sequence[ComparedPicture]) -> np.ndarray:
    """Return what the trained model gives for these pictures, float32 [N, C]."""
    return np.stack([picture.reference.outputs[bundle.PROBABILITIES] for picture in pictures])


def _names(pictures: Sequence[ComparedPicture]) -> list[str]:
    return [picture.name for picture in pictures]


def _clear(p_NC: np.ndarray) -> np.ndarray:
    """Tell which pictures have first two classes further apart than `MARGIN`, bool [N]."""
    if p_NC.shape[1] == 1:
        return np.ones(len(p_NC), bool)
    ranked = np.sort(p_NC, axis=1)
    return ranked[:, -1] - ranked[:, -2] > MARGIN


def _of_same_pixels(
    name: str, pictures: Sequence[ComparedPicture], exported: np.ndarray, clear: np.ndarray
) -> np.ndarray:
    """Measure how far an output is from torch's for the same pixels, relative, float [N]."""
    # a map lies in [0, 1], and an empty one is all 0, so differences are not divided by less than 1
    is_map = name == bundle.HEATMAP
    least = {bundle.HEATMAP: 1.0}.get(name, TINY)
    differences = np.zeros(len(pictures))
    for row, picture in enumerate(pictures):
        # a map shows one class, and shows another where the first two have changed places
        if clear[row] or not is_map:
            expected = picture.same_pixels.outputs[name]
            differences[row] = relative(expected, exported[row], least)
    return differences


def accuracy(
    precision: str, limit: float, labelled: Sequence[Labelled], probabilities_NC: np.ndarray
) -> Rung:
    """Return the rung of the points of top-1 that the exported model loses against the trained one
    on the same pictures, at most `limit`.

    The standard error is that of a paired difference of proportions with half a picture added to
    each kind of change (Agresti and Min, Statistics in Medicine 2005). Without that addition, three
    pictures whose answers stay the same would prove that nothing is ever lost.
    """
    label, before = np.array([(picture.label, picture.predicted) for picture in labelled]).T
    after = probabilities_NC.argmax(1)
    lost = (before == label).astype(int) - (after == label)
    # half a picture more in each of four cells: right or wrong before, right or wrong after
    changed, count = int(np.abs(lost).sum()) + 1, len(lost) + 2
    points = 100 * float(lost.mean())
    if not np.isfinite(probabilities_NC).all():
        points = math.inf
    error = 100 * math.sqrt(changed - float(lost.sum()) ** 2 / count) / count
    # fp16 needs no such caution: it changes an answer only where two classes are nearly equal
    if precision == "fp16" and (after == before).all():
        error = 0.0
    broken = labelled[int(lost.argmax())].path.name
    same = float((after == before).mean())
    return Rung("accuracy", limit, points, broken, len(lost), error, same)


def core(model: Path, pictures: Sequence[ComparedPicture]) -> Rung:
    """Return the rung of the plain model, `pixel_values` -> `logits`, over several batch sizes."""
    session, _ = onnx_runtime.load_session(model, "cpu")
    worst = np.zeros(len(pictures))
    # several sizes, since a batch that became a constant shows in the others only
    for size in BATCHES:
        for start in range(0, len(pictures), size):
            batch = pictures[start : start + size]
            x = np.stack([picture.reference.x for picture in batch])
            [logits] = session.run(None, {PIXEL_VALUES: x})
            for row, picture in enumerate(batch):
                difference = relative(picture.reference.core, logits[row])
                worst[start + row] = max(worst[start + row], difference)
    return rung_of("core", worst, _names(pictures))


def pixels(pictures: Sequence[ComparedPicture], *, by_products: bool) -> list[Rung]:
    """Return the rungs of the graph's windows before normalisation: the largest difference of a
    value, and the share of values that differ by more than one level."""
    names = _names(pictures)
    levels, off_by_2 = np.array([(picture.levels, picture.off_by_2) for picture in pictures]).T
    if by_products:
        # not counted for this way of resizing (`LIMITS`)
        off_by_2 = np.zeros(len(pictures))
    share = Rung(
        "pixels off by 2",
        LIMITS["pixels off by 2"],
        float(off_by_2.mean()),
        names[int(off_by_2.argmax())],
        len(names),
    )
    return [rung_of("pixels", levels, names), share]

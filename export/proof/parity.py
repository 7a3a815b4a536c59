"""The proof that an exported file answers like the trained model: the same pictures through both,
number by number.

The reference is Pillow, torch and `zoo/contract/decision.py`; the exported file is run by
`zoo/predictor.py`, the code that serves, in a process of its own without torch; the accuracy of a
precision that rounds is counted by ONNX Runtime here. Each rung compares one thing and has one
limit.
"""

import math
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from export.graph.deployed import Parts
from export.proof.judging import LIMITS, TINY, Labelled, Rung, relative, rung_of
from zoo.answer import onnx_runtime
from zoo.contract import bundle, decision
from zoo.host import console
from zoo.host.errors import UserError
from zoo.network import class_maps
from zoo.network.forward import forward
from zoo.picture import tta
from zoo.picture.decoding import decode
from zoo.picture.preprocess import normalise

MARGIN = 0.01
"""Top-1 is compared where the two most probable classes are further apart than this."""
BATCHES = (1, 2, 5)
TOGETHER = (8,)
"""Batches of pictures that are answered for their answers only, not to compare batches."""
MOST_WAITING = 2 * max(BATCHES)
"""Decoded pictures that wait for others of their size: photographs have 36 MB each, and often no
two the same size."""
COMMAND_LINE = 24_000 if sys.platform == "win32" else 100_000
"""Bytes of file names on one command line: Windows takes 32,767 characters, Linux 128 KiB."""


@dataclass(frozen=True)
class Answered:
    """What torch and zoo.contract.decision make of one picture's views."""

    x: np.ndarray
    """float32 [3, S, S]: the first view, normalised."""
    core: np.ndarray
    """Logits of the first view, float32 [C]."""
    outputs: Mapping[str, np.ndarray]
    """By the names of the deployed graph's outputs."""


@dataclass(frozen=True)
class Compared:
    """One picture, as Pillow prepares it and as the graph does."""

    name: str
    levels: float
    """Largest difference between the two, in levels of 255."""
    off_by_2: float
    """Share of the values that differ by more than one level."""
    reference: Answered
    """From Pillow's pixels."""
    same_pixels: Answered
    """From the graph's own pixels, so that what follows is compared by itself."""

    @property
    def moved(self) -> float:
        """By how much resizing alone moves a probability."""
        probabilities = bundle.PROBABILITIES
        return float(
            np.abs(
                self.reference.outputs[probabilities] - self.same_pixels.outputs[probabilities]
            ).max()
        )


def compared(
    parts: Parts, session: Any, paths: Mapping[str, Path], known: dict[str, Answered] | None = None
) -> list[Compared]:
    """Prepare every picture (name -> file) twice, and answer both by torch.

    `session` gives the graph's windows before normalisation. `known`: what torch answered before;
    it is added to.
    """
    known = {} if known is None else known
    has_map = class_maps.has_map(parts.model, parts.pre.size)
    found = []
    for name, path in console.track(list(paths.items()), "comparing pictures"):
        picture = decode(path)
        own = tta.prepare(picture, parts.pre, tta.VIEWS[parts.decision.views])
        [windows] = session.run(["windows"], {bundle.IMAGE: np.asarray(picture)[None]})
        seen = windows.transpose(0, 2, 3, 1)
        difference = np.abs(seen - own.astype(np.float32))
        levels = float(difference.max())
        if name not in known:
            known[name] = answered(parts, own, has_map=has_map)
        other = (
            known[name]
            if levels == 0
            else answered(parts, seen.round().astype(np.uint8), has_map=has_map)
        )
        found.append(Compared(name, levels, float((difference > 1).mean()), known[name], other))
    return found


@torch.inference_mode()
def answered(parts: Parts, pixels: np.ndarray, *, has_map: bool) -> Answered:
    """Answer the views of one picture, uint8 [views, S, S, 3], by torch and
    zoo.contract.decision."""
    made = parts.decision
    x = np.stack([normalise(view, parts.pre) for view in pixels])
    seen = forward(parts.model, torch.from_numpy(x), made.early)
    logits = seen.logits.float().numpy()
    p_C = decision.temper(decision.average(logits[None]), made.temperature)[0]
    embedding = seen.embedding[:1].float().numpy()
    outputs = {"probabilities": p_C, "embedding": embedding[0]}
    if made.unknown is not None and parts.bank is not None:
        outputs["unknown_score"] = decision.knn_distance(
            embedding, parts.bank.numpy(), made.unknown.neighbours, made.unknown.shortest
        )[0]
    if has_map:
        best = torch.tensor([p_C.argmax()])
        outputs["heatmap"] = class_maps.heatmap(parts.model, seen.feature_map[:1], best)[0].numpy()
    return Answered(x[0], logits[0], outputs)


def predicted(folder: Path, paths: Sequence[Path]) -> dict[str, np.ndarray]:
    """Outputs of a bundle's model for all pictures, by zoo.predictor in processes without torch."""
    title = f"answering {len(paths)} pictures by the exported file"
    with console.bar(title, len(paths)) as advance:
        parts = [_predicted(folder, group, advance) for group in command_lines(paths)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def command_lines(paths: Sequence[Path]) -> list[list[Path]]:
    """The paths in groups, in order, each short enough for one command line."""
    groups: list[list[Path]] = []
    left = 0
    for path in paths:
        length = len(os.fsencode(path)) + 1
        if not groups or length > left:
            groups.append([])
            left = COMMAND_LINE
        groups[-1].append(path)
        left -= length
    return groups


def _predicted(
    folder: Path, paths: Sequence[Path], advance: console.Advance
) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as temporary:
        saved = Path(temporary) / "outputs.npz"
        command = [
            sys.executable,
            "-m",
            "zoo.predictor",
            str(folder),
            *map(str, paths),
            "--outputs",
            str(saved),
            "--provider",
            "cpu",
            "--unfinished",
        ]
        ended_well, words = run_predictor(command, advance)
        if not ended_well or not saved.is_file():
            raise UserError(f"the exported model cannot be run: {words.strip()[-500:]}")
        with np.load(saved) as arrays:
            return {name: arrays[name] for name in arrays}


def run_predictor(command: Sequence[str], advance: console.Advance) -> tuple[bool, str]:
    """Whether the command, which prints a line for each picture, ended well; and its errors, or
    else the last line."""
    last = ""
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace"
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                advance(1)
                last = line
        errors.seek(0)
        return process.returncode == 0, errors.read() or last


def run(
    session: Any, names: Sequence[str], paths: Sequence[Path], batches: Sequence[int] = (1,)
) -> dict[str, np.ndarray]:
    """Outputs of a session for all pictures, in this process; those of one size in batches of these
    lengths."""
    given: dict[int, tuple[np.ndarray, ...]] = {}
    sizes, waiting = (
        cycle(batches),
        defaultdict[tuple[int, int], list[tuple[int, np.ndarray]]](list),
    )

    def answer(some: list[tuple[int, np.ndarray]]) -> None:
        values = session.run(names, {bundle.IMAGE: np.stack([picture for _, picture in some])})
        for row, (place, _) in enumerate(some):
            given[place] = tuple(value[row] for value in values)
        some.clear()

    wanted = next(sizes)
    for place, path in enumerate(console.track(paths, f"answering {len(paths)} pictures")):
        picture = decode(path)
        waiting[picture.size].append((place, np.asarray(picture)))
        if len(waiting[picture.size]) >= wanted:
            answer(waiting[picture.size])
            wanted = next(sizes)
        elif sum(map(len, waiting.values())) >= MOST_WAITING:
            answer(max(waiting.values(), key=len))
    for some in filter(None, waiting.values()):  # of sizes that few pictures have
        answer(some)
    rows = [given[place] for place in range(len(paths))]
    return {
        name: np.stack(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)
    }


def probabilities(session: Any, labelled: Sequence[Labelled]) -> np.ndarray:
    """What a session gives for these pictures: float32 [N, C]."""
    answers = run(session, [bundle.PROBABILITIES], [one.path for one in labelled], TOGETHER)
    return answers[bundle.PROBABILITIES]


def compare(
    pictures: Sequence[Compared], outputs: Mapping[str, np.ndarray], *, judged: bool = True
) -> list[Rung]:
    """The rungs from file bytes to outputs; `outputs` has a row for each picture. Not `judged`:
    without limits."""
    p_NC = np.stack([one.reference.outputs["probabilities"] for one in pictures])
    ranked = np.sort(p_NC, axis=1)
    clear = (
        ranked[:, -1] - ranked[:, -2] > MARGIN if p_NC.shape[1] > 1 else np.ones(len(p_NC), bool)
    )
    other = clear & (p_NC.argmax(1) != outputs["probabilities"].argmax(1))
    names = [one.name for one in pictures]
    rungs = [
        rung_of(
            "probabilities", np.abs(p_NC - outputs["probabilities"]).max(1), names, judged=judged
        ),
        rung_of("top-1", np.cumsum(other), names, judged=judged),
    ]
    for name in ("unknown_score", "embedding", "heatmap"):
        if name in outputs:
            # a map lies in [0, 1]; one without anything is all 0
            least = 1.0 if name == "heatmap" else TINY
            compared = [is_clear or name != "heatmap" for is_clear in clear]
            differences = [
                relative(one.same_pixels.outputs[name], seen, least) if same_class else 0.0
                for one, seen, same_class in zip(pictures, outputs[name], compared, strict=True)
            ]
            rungs.append(rung_of(name, np.array(differences), names, judged=judged))
    return rungs


def accuracy(
    precision: str, limit: float, labelled: Sequence[Labelled], probabilities_NC: np.ndarray
) -> Rung:
    """Points of top-1 that the exported model loses against the trained one on the same pictures;
    at most `limit`.

    The standard error is that of a paired difference of proportions with half a picture added to
    each kind of change (Agresti and Min, Statistics in Medicine 2005): without it, three pictures
    whose answers stay the same would prove that nothing is ever lost. fp16, which changes an answer
    only where two classes are nearly equal, passes where all answers stay the same.
    """
    label, said = np.array([[one.label, one.said] for one in labelled]).T
    taken_for = probabilities_NC.argmax(1)
    lost = (said == label).astype(int) - (taken_for == label)
    changed, count = int(np.abs(lost).sum()) + 1, len(lost) + 2
    points = 100 * float(lost.mean())
    error = 100 * math.sqrt(changed - float(lost.sum()) ** 2 / count) / count
    if precision == "fp16" and (taken_for == said).all():
        error = 0.0
    broken = labelled[int(lost.argmax())].path.name
    return Rung(
        "accuracy",
        limit,
        points if np.isfinite(probabilities_NC).all() else float("inf"),
        broken,
        len(lost),
        error,
        float((taken_for == said).mean()),
    )


def core(model: Path, pictures: Sequence[Compared]) -> Rung:
    """The plain model, `pixel_values` -> `logits`, at several batch sizes."""
    session, _ = onnx_runtime.load(model, "cpu")
    differences = np.zeros(len(pictures))
    for size in BATCHES:
        for start in range(0, len(pictures), size):
            batch = pictures[start : start + size]
            [logits] = session.run(
                None, {"pixel_values": np.stack([one.reference.x for one in batch])}
            )
            for row, one in enumerate(batch):
                differences[start + row] = max(
                    differences[start + row], relative(one.reference.core, logits[row])
                )
    return rung_of("core", differences, [one.name for one in pictures])


def pixels(pictures: Sequence[Compared], *, by_products: bool) -> list[Rung]:
    """The graph's windows before normalisation: how far off, and how many of the values by more
    than one level."""
    names = [one.name for one in pictures]
    far = np.zeros(len(pictures)) if by_products else np.array([one.off_by_2 for one in pictures])
    share = Rung(
        "pixels off by 2",
        LIMITS["pixels off by 2"],
        float(far.mean()),
        names[int(far.argmax())],
        len(names),
    )
    return [rung_of("pixels", np.array([one.levels for one in pictures]), names), share]

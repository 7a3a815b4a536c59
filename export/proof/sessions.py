"""Sessions, which answer batches of pictures: those of ONNX Runtime and OpenVINO, and an engine on
a GPU."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Protocol

import numpy as np

from export.proof.judging import Labelled, paths_of
from zoo.contract import bundle
from zoo.host import console
from zoo.picture.decoding import decode

BATCHES = (1, 2, 5)
TOGETHER = (8,)
"""Batches of pictures that are answered for their answers only, not to compare batches."""
MOST_WAITING = 2 * max(BATCHES)
"""Decoded pictures that wait for others of their size: photographs have 36 MB each, and often no
two the same size."""
Waiting = list[tuple[int, np.ndarray]]
"""Decoded pictures of one size, each with its place among all pictures."""


class Session(Protocol):
    """A model that is loaded; the part of ONNX Runtime's InferenceSession that a proof asks for."""

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, np.ndarray], /
    ) -> Sequence[np.ndarray]:
        """Return the outputs of these names, or all of them for None, for one batch on the
        inputs."""
        ...


def run(
    session: Session, names: Sequence[str], paths: Sequence[Path], batches: Sequence[int] = (1,)
) -> dict[str, np.ndarray]:
    """Return the outputs of a session for all pictures, a row for each; pictures of one size are
    answered in batches of these lengths, in turn."""
    rows: dict[int, list[np.ndarray]] = {}
    # by size: pictures of one size only fit into a batch
    waiting = defaultdict[tuple[int, int], Waiting](list)
    lengths = cycle(batches)
    wanted = next(lengths)
    for place, path in enumerate(console.track(paths, f"answering {len(paths)} pictures")):
        picture = decode(path)
        alike = waiting[picture.size]
        alike.append((place, np.asarray(picture)))
        if len(alike) >= wanted:
            _answer(session, names, alike, rows)
            wanted = next(lengths)
        # the largest group is answered short, which frees the most memory
        elif sum(map(len, waiting.values())) >= MOST_WAITING:
            _answer(session, names, max(waiting.values(), key=len), rows)
    for alike in filter(None, waiting.values()):  # of sizes that few pictures have
        _answer(session, names, alike, rows)
    in_order = [rows[place] for place in range(len(paths))]
    by_output = zip(*in_order, strict=True)
    return dict(zip(names, map(np.stack, by_output), strict=True))


def _answer(
    session: Session, names: Sequence[str], waiting: Waiting, rows: dict[int, list[np.ndarray]]
) -> None:
    """Answer the pictures that wait, put their outputs into `rows` by place, and let nothing
    wait."""
    places, pictures = zip(*waiting, strict=True)
    values = session.run(names, {bundle.IMAGE: np.stack(pictures)})
    for row, place in enumerate(places):
        rows[place] = [value[row] for value in values]
    waiting.clear()


def probabilities(
    session: Session, labelled: Sequence[Labelled], batches: Sequence[int] = TOGETHER
) -> np.ndarray:
    """Return what a session gives for these pictures: float32 [N, C]."""
    answers = run(session, [bundle.PROBABILITIES], paths_of(labelled), batches)
    return answers[bundle.PROBABILITIES]

"""What a target gives back: the files that it wrote, what they answer, and how that can be
proved."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from export.graph.deployed import Deployed
from export.graph.resize import Resize
from export.proof.judging import Rung
from export.proof.sessions import Session
from zoo.contract import bundle
from zoo.contract.decision import Decision


@dataclass(frozen=True)
class Product:
    """What a target wrote into its folder."""

    outputs: Sequence[str]
    """Names of what the model answers; without an unknown answer, that output is not counted."""
    resize: Resize
    """How the model resizes pictures, for bundle.json."""
    model: str = bundle.MODEL
    """File of the model, relative to the folder."""
    pixels: Deployed | None = None
    """The graph whose pixels can be compared with Pillow's, because what runs the model runs a part
    of the graph as well; None: only answers can be compared."""
    plain: Path | None = None
    """The plain model, `pixel_values` -> `logits`, to be proved with it: an unfinished file beside
    `PLAIN`."""
    engine: Session | None = None
    """An engine built from the model, which has to answer like it."""
    status: str = "ok"
    """`ok`, or what could not be shown on this machine."""
    decision: Decision | None = None
    """The file's own, where its embeddings are not those of the trained model."""
    rungs: Sequence[Rung] = ()
    """What was compared already when it was made."""
    labelled_NC: np.ndarray | None = None
    """The probabilities that the file gives for `TrainedRun.labelled`, if they were asked for when
    it was made."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """More for bundle.json."""
    lossy: bool = False
    """Proved to keep the accuracy of the trained model, rather than to answer alike."""
    next_steps: Callable[[Path], Sequence[str]] = lambda folder: ()
    """Commands that the user may want now, for the folder that the bundle gets when it is
    finished."""


def all_of(*statuses: str) -> str:
    """Return one status for bundle.json: what could not be shown, or else `ok`."""
    return "; ".join(status for status in statuses if status != "ok") or "ok"

"""An answer in other forms: JSON for programs, and the heat map over what the network sees."""

from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from serve.engine.answer_queue import AnsweredPicture
from zoo.picture.preprocess import resize_crop

SHOWN = 384
"""Longest side in pixels of a picture with its heat map."""
OPAQUE = 0.6
"""Opacity of the hottest place."""
_STOPS = np.array(
    [[30, 60, 160], [20, 165, 190], [90, 205, 90], [250, 200, 40], [225, 45, 30]], np.float32
)
_COLOURS = np.stack(
    [
        np.interp(np.linspace(0, 1, 256), np.linspace(0, 1, len(_STOPS)), channel)
        for channel in _STOPS.T
    ],
    -1,
).astype(np.float32)
"""From cold to hot: float32 [256, RGB]."""


def answer_json(
    answered: AnsweredPicture, *, heatmap: bool = False, embedding: bool = False
) -> dict[str, Any]:
    """Return the answer as JSON holds it: every probability exactly as the model gives it."""
    prediction, answer = answered.prediction, answered.prediction.answer
    content: dict[str, Any] = {
        "label": answer.label,
        "unknown": answer.label is None,
        "unknown_score": answer.unknown_score,
        "top": [{"label": label, "probability": probability} for label, probability in answer.top],
        "prediction_set": None,
    }
    if answer.prediction_set is not None:
        content["prediction_set"] = list(answer.prediction_set)
    if heatmap:
        content["heatmap"] = None
        if prediction.heatmap is not None:
            content["heatmap"] = prediction.heatmap.tolist()
    if embedding:
        content["embedding"] = prediction.embedding.tolist()
    return content


def overlay(answered: AnsweredPicture) -> Image.Image | None:
    """Return what the network sees, in the picture's proportions, with the heat map over it; None
    for a model without one."""
    heat = answered.prediction.heatmap
    if heat is None:
        return None
    pre = answered.model.predictor.bundle.pre
    picture = Image.fromarray(answered.pixels)
    # what the network sees, not the picture itself: a crop has no evidence outside of it
    input_picture = resize_crop(picture, replace(pre, size=SHOWN))
    smooth = np.asarray(
        Image.fromarray(heat.astype(np.float32)).resize((SHOWN, SHOWN), Image.Resampling.BICUBIC)
    )
    # bicubic interpolation overshoots
    smooth = smooth.clip(0, 1)
    colours = _COLOURS[(255 * smooth).astype(np.uint8)]
    # the root, so that weak evidence can be seen as well
    opacity = OPAQUE * np.sqrt(smooth)[..., None]
    grey = input_picture.mean(-1, keepdims=True, dtype=np.float32)
    # less colour, so that red on red can be told
    cold = np.float32(0.7) * grey + np.float32(0.3) * input_picture
    painted = Image.fromarray(np.rint((1 - opacity) * cold + opacity * colours).astype(np.uint8))
    if pre.crop_mode != "squash":
        return painted
    width, height = picture.size
    scale = SHOWN / max(width, height)
    return painted.resize(
        (max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.LANCZOS
    )

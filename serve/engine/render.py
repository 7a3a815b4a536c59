"""An answer in other forms: JSON for programs, and the heat map over what the network sees."""

from dataclasses import replace
from typing import Any

from PIL import Image

from serve.engine.answer_queue import AnsweredPicture
from zoo.picture import heat as heat_maps
from zoo.picture.preprocess import resize_crop

SHOWN = 384
"""Longest side in pixels of a picture with its heat map."""


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


def with_heat_map(answered: AnsweredPicture) -> Image.Image | None:
    """Return what the network sees, in the picture's proportions, with the heat map over it; None
    for a model without one."""
    heat = answered.prediction.heatmap
    if heat is None:
        return None
    pre = answered.model.predictor.bundle.pre
    picture = Image.fromarray(answered.pixels)
    # what the network sees, not the picture itself: a crop has no evidence outside of it
    input_picture = resize_crop(picture, replace(pre, size=SHOWN))
    painted = Image.fromarray(heat_maps.overlay(input_picture, heat))
    if pre.crop_mode != "squash":
        return painted
    width, height = picture.size
    scale = SHOWN / max(width, height)
    return painted.resize(
        (max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.LANCZOS
    )

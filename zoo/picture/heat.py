"""A heat map over the picture that it explains, the same in the report and in the service."""

import numpy as np
from PIL import Image

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


def overlay(pixels_SS3: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lay a heat map (rows from the top, values 0 to 1) over a square picture, uint8 [S, S, 3]:
    nearly grey where it is cold, coloured where it is hot."""
    side = len(pixels_SS3)
    resized = Image.fromarray(heat.astype(np.float32)).resize(
        (side, side), Image.Resampling.BICUBIC
    )
    # bicubic interpolation overshoots
    smooth = np.asarray(resized).clip(0, 1)
    colours = _COLOURS[(255 * smooth).astype(np.uint8)]
    # the root, so that weak evidence can be seen as well
    opacity = OPAQUE * np.sqrt(smooth)[..., None]
    grey = pixels_SS3.mean(-1, keepdims=True, dtype=np.float32)
    # less colour, so that red on red can be told
    cold = np.float32(0.7) * grey + np.float32(0.3) * pixels_SS3
    return np.rint((1 - opacity) * cold + opacity * colours).astype(np.uint8)

"""Test-time views: the windows of a picture that are answered separately and averaged.

A view is a window of the picture prepared at a larger size, so it is as sharp as the picture
allows, and every view has the size that the network takes. The first view is always the picture as
evaluation sees it; embedding and heat map belong to it.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from PIL import Image

from zoo.picture.preprocess import Preprocessing, resize_crop


class View(NamedTuple):
    """One window."""

    zoom: float = 1.0
    """The picture is prepared at `round(size * zoom)` pixels, the window has `size`."""
    across: float = 0.5
    """Where the window lies from left (0) to right (1)."""
    down: float = 0.5
    """Where the window lies from top (0) to bottom (1)."""
    mirrored: bool = False
    """Left and right exchanged."""


WHOLE = View()
ZOOM = 1 / 0.875
"""The corners' zoom: 256 pixels for a window of 224, as in AlexNet's test-time crops (Krizhevsky et
al., 2012)."""
VIEWS: dict[str, tuple[View, ...]] = {
    "none": (WHOLE,),
    "flip": (WHOLE, View(mirrored=True)),
    "five": (
        WHOLE,
        View(ZOOM, across=0.0, down=0.0),
        View(ZOOM, across=1.0, down=0.0),
        View(ZOOM, across=0.0, down=1.0),
        View(ZOOM, across=1.0, down=1.0),
    ),
    "multiscale": (WHOLE, View(ZOOM), View(1 / 0.75)),
}
"""What `views` of decision.json means."""


def prepare_views(picture: Image.Image, pre: Preprocessing, views: tuple[View, ...]) -> np.ndarray:
    """RGB picture of any size -> uint8 [views, S, S, 3]."""
    # views of the same zoom share the resizing, which costs most
    prepared: dict[float, np.ndarray] = {}
    for zoom in dict.fromkeys(view.zoom for view in views):
        prepared[zoom] = resize_crop(picture, replace(pre, size=zoomed_size(pre.size, zoom)))
    return np.stack([_window(prepared[view.zoom], view, pre.size) for view in views])


def zoomed_size(size: int, zoom: float) -> int:
    """Side in pixels of the prepared picture that a view's window is cut from."""
    return round(size * zoom)


def offsets(view: View, size: int) -> tuple[int, int]:
    """(left, top) of a view's window in the prepared picture, in pixels."""
    spare = zoomed_size(size, view.zoom) - size
    return round(spare * view.across), round(spare * view.down)


def _window(pixels: np.ndarray, view: View, size: int) -> np.ndarray:
    left, top = offsets(view, size)
    window = pixels[top : top + size, left : left + size]
    return window[:, ::-1] if view.mirrored else window

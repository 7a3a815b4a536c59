"""Pictures made to be hard: sizes, shapes, colour spaces and orientations that a user's own
pictures may lack."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZES = (
    (1, 1),
    (1, 20),
    (20, 1),
    (3, 60),
    (17, 33),
    (64, 64),
    (96, 224),
    (97, 500),
    (500, 97),
    (301, 400),
    (60, 1200),
    (1200, 60),
    (2000, 1500),
)
"""Width and height in pixels: tiny, huge, and up to 20:1."""


def write_pictures(folder: Path) -> list[Path]:
    """Write the pictures; the same on any machine."""
    for width, height in SIZES:
        smooth(width, height).save(folder / f"{width}x{height}.png")
    picture = smooth(240, 180)
    picture.convert("L").save(folder / "grey.png")
    noise = np.random.default_rng(0).integers(0, 256, (130, 170, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    transparent = picture.copy()
    transparent.putalpha(Image.linear_gradient("L").resize(picture.size))
    transparent.save(folder / "alpha.png")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    picture.convert("P").save(folder / "palette.gif")
    levels = np.linspace(0, 65535, 200 * 150).reshape(150, 200).astype(np.uint16)
    Image.fromarray(levels).save(folder / "16bit.png")
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture.save(folder / f"exif{orientation}.jpg", exif=exif, quality=95)
    return sorted(folder.iterdir())


def smooth(width: int, height: int) -> Image.Image:
    """Random colours on a coarse grid, interpolated."""
    # the same picture for a size, whatever the order
    random = np.random.default_rng([width, height])
    grid = random.integers(0, 256, (max(2, height // 12), max(2, width // 12), 3), dtype=np.uint8)
    return Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)

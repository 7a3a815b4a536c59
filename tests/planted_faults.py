"""Faults planted into a folder of train/, val/ and class folders, with what a check has to find."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from zoo.picture.decoding import decode

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def resized(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """A picture at 60 to 150 % of its size."""
    factor = random.choice((0.75, 1.5, 2.0))
    return picture.resize([max(5, round(side * factor)) for side in picture.size])


def brightened(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """30 % brighter or darker."""
    return ImageEnhance.Brightness(picture).enhance(random.choice((0.7, 1.3)))


def cropped(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """A part of 80 % of both sides, from anywhere."""
    width, height = (round(0.8 * side) for side in picture.size)
    left = int(random.integers(picture.width - width + 1))
    top = int(random.integers(picture.height - height + 1))
    return picture.crop((left, top, left + width, top + height))


CHANGES: dict[str, Change] = {
    "re-encoded": lambda picture, random: picture,
    "resized": resized,
    "brightness": brightened,
    "flipped": lambda picture, random: ImageOps.mirror(picture),
    "cropped": cropped,
}


def near_duplicates(root: Path, count: int, seed: int = 0) -> dict[frozenset[str], str]:
    """Write changed copies of `count` pictures of train into val, under their class, and give the
    pairs of paths with what was changed."""
    random = np.random.default_rng(seed)
    paths = sorted((root / "train").rglob("*.png"))
    pairs = {}
    for number, place in enumerate(random.permutation(len(paths))[:count].tolist()):
        path, kind = paths[place], list(CHANGES)[number % len(CHANGES)]
        changed = CHANGES[kind](decode(path), random)
        suffix = "jpg" if kind == "re-encoded" else "png"
        to = root / "val" / path.parent.name / f"planted-{number:02}.{suffix}"
        changed.save(to, quality=75)
        pairs[frozenset((path.relative_to(root).as_posix(), to.relative_to(root).as_posix()))] = (
            kind
        )
    return pairs


def flipped_labels(root: Path, share: float, seed: int = 0) -> set[str]:
    """Move a share of train's pictures into the folder of another class, and give their new
    paths."""
    random = np.random.default_rng(seed)
    paths = sorted((root / "train").rglob("*.*"))
    names = sorted(path.name for path in (root / "train").iterdir())
    moved = set()
    for place in random.permutation(len(paths))[: round(share * len(paths))].tolist():
        path = paths[place]
        others = [name for name in names if name != path.parent.name]
        to = root / "train" / others[random.integers(len(others))] / f"moved-{place}{path.suffix}"
        path.rename(to)
        moved.add(to.relative_to(root).as_posix())
    return moved


def coloured_border(root: Path, name: str) -> None:
    """Draw a blue border round every picture of one class."""
    for path in sorted(root.glob(f"*/{name}/*.*")):
        picture = decode(path)
        wide = max(1, round(0.05 * min(picture.size)))
        corner = (picture.width - 1, picture.height - 1)
        ImageDraw.Draw(picture).rectangle(((0, 0), corner), outline=(40, 80, 220), width=wide)
        picture.save(path)


def camera_model(root: Path, name: str) -> None:
    """Save every picture as a JPEG, of one class with another camera in EXIF than of the others."""
    for path in sorted(root.rglob("*.png")):
        exif = Image.Exif()
        exif[0x010F] = "Canon"
        exif[0x0110] = "EOS 5D" if path.parent.name == name else "EOS 80D"
        decode(path).save(path.with_suffix(".jpg"), quality=90, exif=exif)
        path.unlink()

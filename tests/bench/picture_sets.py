"""Labelled pictures for measurements, made from what is installed; no file of them is kept here.

`emoji`: drawings of `make_emoji`; `icons`: those of Debian's adwaita-icon-theme (CC BY-SA 3.0 or
LGPL 3), by their context; `digits`: scikit-learn's; `letters`: ten letters in the fonts of
matplotlib, coloured and turned; `photos`: parts of eight photographs that ship with scikit-learn,
matplotlib and gradio (parts of one photograph look alike: nearly any network tells them).
"""

import glob
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from finetune.sources.digits import digits

SETS = ("emoji", "icons", "digits", "letters", "photos")
Counts = Mapping[str, int]
"""Split -> pictures of each class."""
LETTERS = "ABEGKMQRSW"
ICONS = Path("/usr/share/icons/Adwaita")
CONTEXTS = ("actions", "devices", "legacy", "mimetypes", "places", "status")
PHOTOGRAPHS = (
    "sklearn/datasets/images/china.jpg",
    "sklearn/datasets/images/flower.jpg",
    "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
    *(
        f"gradio/media_assets/images/{name}"
        for name in ("cheetah.jpg", "groot.jpeg", "lion.jpg", "tower.jpg")
    ),
    "gradio/test_data/cheetah2.jpg",
)
FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "cmr10",
    "cmss10",
    "cmtt10",
    "cmb10",
)


def installed(name: str) -> Path:
    """A file of an installed package, named by its path from where packages lie."""
    package = find_spec(name.partition("/")[0])
    assert package is not None, name
    assert package.origin is not None, name
    return Path(package.origin).parent.parent / name


def emoji_class(folder: Path, name: str, counts: Counts) -> Iterable[Image.Image]:
    """Pictures of one class of `make_emoji`, those of test last."""
    random = np.random.default_rng(0)
    taken = []
    learned = sum(counts.values()) - counts["test"]
    for split, count in (("train", learned), ("test", counts["test"])):
        paths = sorted(glob.glob(str(folder / split / name / "*.png")))
        taken += [paths[i] for i in random.permutation(len(paths))[:count]]
    return [Image.open(path).convert("RGBA") for path in taken]


def letter(name: str, random: np.random.Generator) -> Image.Image:
    """One letter in some font, colour and angle, on some light ground."""
    font = installed(f"matplotlib/mpl-data/fonts/ttf/{FONTS[random.integers(len(FONTS))]}.ttf")
    picture = Image.new("RGB", (64, 64), tuple(random.integers(200, 256, 3).tolist()))
    ImageDraw.Draw(picture).text(
        (32 + random.integers(-4, 5), 32 + random.integers(-4, 5)),
        name,
        anchor="mm",
        fill=tuple(random.integers(0, 160, 3).tolist()),
        font=ImageFont.truetype(str(font), int(random.integers(28, 52))),
    )
    return picture.rotate(
        float(random.uniform(-15, 15)), Image.Resampling.BICUBIC, fillcolor=picture.getpixel((0, 0))
    )


def part(photograph: Image.Image, random: np.random.Generator) -> Image.Image:
    """A square part, a quarter to a half as wide as the photograph's shorter side."""
    side = int(min(photograph.size) * random.uniform(0.25, 0.5))
    left, top = (int(random.integers(0, length - side + 1)) for length in photograph.size)
    return photograph.crop((left, top, left + side, top + side)).resize(
        (128, 128), Image.Resampling.BICUBIC
    )


def icons(counts: Counts) -> dict[str, list[Image.Image]]:
    """Drawings by context, each motif once, at its largest size."""
    random, found = np.random.default_rng(0), {}
    for context in CONTEXTS:
        largest: dict[str, tuple[int, Path]] = {}
        for path in sorted(ICONS.glob(f"*/{context}/*.png")):
            side = int(path.parts[-3].partition("x")[0])
            largest[path.stem] = max(largest.get(path.stem, (0, path)), (side, path))
        names = sorted(largest)
        taken = [names[i] for i in random.permutation(len(names))[: sum(counts.values())]]
        found[context] = [Image.open(largest[name][1]).convert("RGBA") for name in taken]
    return found


def made_set(name: str, emoji: Path, counts: Counts) -> dict[str, list[Image.Image]]:
    """Class -> as many pictures as `counts` has, or as there are."""
    total, random = sum(counts.values()), np.random.default_rng(1)
    if name == "emoji":
        return {
            path.name: list(emoji_class(emoji, path.name, counts))
            for path in sorted((emoji / "train").iterdir())
        }
    if name == "icons":
        return icons(counts)
    if name == "digits":
        pixels, target = digits()
        return {
            str(c): [
                Image.fromarray(pixels[i])
                for i in random.permutation(np.flatnonzero(target == c))[:total]
            ]
            for c in range(10)
        }
    if name == "letters":
        return {c: [letter(c, random) for _ in range(total)] for c in LETTERS}
    return {
        Path(path).stem: [
            part(Image.open(installed(path)).convert("RGB"), random) for _ in range(total)
        ]
        for path in PHOTOGRAPHS
    }


def write_set(name: str, emoji: Path, folder: Path, counts: Counts) -> Path:
    """Write a folder for each split, with as many pictures of each class as `counts` has. Where
    there are fewer, each split has its share of them."""
    if folder.exists():
        return folder
    shares = np.cumsum(list(counts.values())) / sum(counts.values())
    for label, pictures in made_set(name, emoji, counts).items():
        cuts = np.round(shares[:-1] * len(pictures)).astype(int)
        numbers = np.split(np.arange(len(pictures)), cuts)
        for split, members in zip(counts, numbers, strict=True):
            (folder / split / label).mkdir(parents=True)
            for i in members.tolist():
                pictures[i].save(folder / split / label / f"{i:03}.png")
    return folder

"""matplotlib as every figure here uses it: names of users are text, never mathematics.

    with plain_text():              the defaults of matplotlib, whatever the user's own settings are
    name_legend(legend, names)      the names of a legend, also those that begin with an underscore

matplotlib reads a text with two dollar signs as a formula, and leaves a label that begins with `_`
out of a legend.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

LONGEST = 40
"""Characters of the name of a run in a figure."""
DRAWING_ERRORS = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    OSError,
    MemoryError,
    AssertionError,
)
"""What matplotlib and the code that calls it raise where a figure cannot be drawn."""


@contextmanager
def plain_text(settings: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Inside, texts that are made hold no formulas; `settings` of matplotlib are added to its
    defaults."""
    import matplotlib.style

    with warnings.catch_warnings():
        # a font without the letters of a name draws boxes, which is no fault of who called the
        # command
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font")
        warnings.filterwarnings(
            "ignore", message="Matplotlib currently does not support .* natively"
        )
        # "default" first: a matplotlibrc of the user's may ask for LaTeX or a font that is not here
        with matplotlib.style.context(["default", {**(settings or {}), "text.parse_math": False}]):
            yield


def short(name: str) -> str:
    """A name that leaves room for the figure."""
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST - 1]}…"


def name_legend(legend: Any, names: Sequence[str]) -> None:
    """Give the entries of a legend their names; drawn before with other labels, none of them was
    left out."""
    for entry, name in zip(legend.get_texts(), names, strict=True):
        entry.set_text(name)

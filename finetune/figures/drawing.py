"""One figure as it is handed on, and what of a text can be shown."""

import base64
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Drawing:
    """Holds one figure."""

    name: str
    """File name without suffix."""
    svg: str
    """Empty if the figure could not be drawn."""
    width: int
    """Natural width in CSS pixels."""
    height: int
    alt: str
    """What a screen reader says; of a figure that could not be drawn, why."""

    def uri(self) -> str:
        """Give the figure as a data URI."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg.encode()).decode()


UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""Control characters, also those that reverse text; undecodable bytes of file names; what XML may
not hold."""


def printable(text: str) -> str:
    """Replace in `text` what cannot be shown by U+FFFD."""
    return UNPRINTABLE.sub("\ufffd", text)

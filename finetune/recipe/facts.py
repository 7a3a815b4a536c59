"""What a recipe may depend on: facts of data, base and device, and what was given by hand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.host.errors import UserError

if TYPE_CHECKING:
    from zoo.network.build import Description


@dataclass(frozen=True)
class Facts:
    """What a recipe may depend on."""

    pictures: int
    """Pictures in train, before val is cut from it."""
    class_counts: tuple[int, ...]
    """The same of each class."""
    has_val: bool
    """Whether there is a validation folder."""
    short_side: int
    """Median shorter side of the training pictures, in pixels."""
    base: "Description"
    """Size, input and layers of the base."""
    device: str
    """cpu, cuda, mps."""
    bf16: bool
    """Whether a GPU computes in bf16."""
    cores: int
    """CPU threads this process may compute with."""
    processes: int = 1
    """Processes that share each step, one per GPU."""
    takes: Callable[[int], bool] = lambda side: True
    """Whether the base can be trained with pictures of this side."""
    takes_drop_path: Callable[[], bool] = lambda: True
    """Whether blocks of the base can be left out at random; asked only where a recipe would do
    it."""


Choices = dict[str, tuple[Any, str]]
Given = Mapping[str, Any]


def as_fraction(val: str) -> float | None:
    """The fraction that `--val` gives, None if it is a path; `UserError` outside (0, 1)."""
    try:
        fraction = float(val)
    except ValueError:
        return None
    if not 0 < fraction < 1:
        raise UserError(
            f"--val {val}: expected a fraction between 0 and 1, such as 0.2, or a folder."
        )
    return fraction

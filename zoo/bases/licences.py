"""Licences of weights: which of them forbid commercial use, and what a user is told about one."""

from pathlib import Path
from typing import TYPE_CHECKING

from zoo.contract import rundir

if TYPE_CHECKING:
    from zoo.bases.catalog import Base

NON_COMMERCIAL = frozenset(
    {"cc-by-nc-4.0", "fair-noncommercial-research-license", "seer-license", "apple-amlr"}
)
"""Identifiers, as timm writes them, of the licences that forbid commercial use (apple-amlr:
research only)."""
PERMISSIVE = frozenset({"apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0"})
"""Licences that need no note. All others have terms of their own."""


def forbids_commercial_use(licence: str | None) -> bool:
    """Whether a licence is known to forbid commercial use; every Creative Commons `cc-by-nc`
    variant does."""
    name = (licence or "").lower()
    return name in NON_COMMERCIAL or name.startswith("cc-by-nc")


def licence_note(base: "Base") -> str | None:
    """One sentence to show before a base is used: its licence forbids commercial use, is special,
    or is not known."""
    if base.licence and base.licence.lower() in PERMISSIVE:
        return None
    if forbids_commercial_use(base.licence):
        return (
            f"The licence of {base.alias} ({base.licence}) forbids commercial use; "
            "that holds for models fine-tuned from these weights too."
        )
    card = str((base.folder or Path()) / rundir.CARD)
    if base.hub_id:
        card = f"https://huggingface.co/{base.hub_id.partition('@')[0]}"
    # `other` is what the Hub writes where it has no identifier
    if base.licence in (None, "unknown", "other"):
        return (
            f"The licence of {base.alias} is not known here: read {card} before you publish or "
            "sell what you train."
        )
    return (
        f"{base.alias} has a licence with terms of its own ({base.licence}): read {card} before "
        "you use it."
    )

"""Everything that is decided before the first weight changes."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from finetune.dataset import Data
from finetune.folder import Claim
from finetune.loader import Source
from finetune.recipe import Resolved
from zoo.catalog import Base


@dataclass(frozen=True)
class Plan:
    """One run: its folder, pictures, recipe and model."""

    claim: Claim
    base: Base
    data: Data
    resolved: Resolved
    model: nn.Module
    """On its device; the loop changes its weights."""
    source: Source
    """How evaluation and training read pictures."""

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.claim.folder

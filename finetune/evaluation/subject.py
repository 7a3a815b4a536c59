"""What an evaluation is about: one trained model, and the pictures of its run."""

from dataclasses import dataclass

from torch import nn

from finetune.data.dataset import Data
from finetune.data.loader import PictureSource


@dataclass(frozen=True)
class Subject:
    """Holds a trained model and its pictures."""

    model: nn.Module
    data: Data
    source: PictureSource

"""The registry of bases: rows only. `find` answers an alias, `timm/<arch.tag>`, `hf-hub:org/name` or a run folder."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Base:
    """A pretrained model that a run can start from. Fields that only a catalogue row knows are None for other bases."""

    alias: str
    """Name the user types: `vit_base_21k`; for other bases the name as it was typed."""
    architecture: str | None
    """timm's architecture, `vit_base_patch16_224`; None until the Hub's or the run folder's config.json is read."""
    tag: str
    """timm's pretrained tag, `augreg_in21k`; empty for Hub repositories and run folders."""
    hub_id: str | None
    """Hub repository of the weights, `timm/vit_base_patch16_224.augreg_in21k`; None for a run folder."""
    pretrained_on: str | None = None
    """Data of the last supervised (or only) pretraining: `ImageNet-21k`, `ImageNet-1k`, `LVD-142M`, `WebLI`, ..."""
    params_m: float | None = None
    """Parameters without the classification head, in millions."""
    gmacs: float | None = None
    """Multiply-accumulates of one picture at `input_size`, in billions (timm's benchmark table)."""
    input_size: int | None = None
    """Side of the (square) input of the pretrained configuration, in pixels."""
    licence: str | None = None
    """Licence identifier as timm's pretrained configuration gives it: `apache-2.0`, `cc-by-nc-4.0`, ..."""
    top1: float | None = None
    """Published ImageNet-1k top-1 in percent of these weights, or of their ImageNet-1k fine-tune (timm's results table)."""
    package: str | None = None
    """pip package that carries the weights, so that no download is needed."""
    folder: Path | None = None
    """A finished run folder used as base."""

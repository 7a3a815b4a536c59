"""What is borrowed from timm. Tried with timm 1.0.31."""

from typing import Any

from torch import nn


def write_out_attention(module: nn.Module) -> bool:
    """Have every attention of a network compute the same without torch's fused operation; whether
    there was one.

    Borrowed: the flag `fused_attn` of each attention. `timm.layers.set_fused_attn`, the public way,
    counts for networks that are made afterwards.
    """
    fused: list[Any] = [part for part in module.modules() if getattr(part, "fused_attn", False)]
    # not put back, because the answers stay the same
    for part in fused:
        part.fused_attn = False
    return bool(fused)

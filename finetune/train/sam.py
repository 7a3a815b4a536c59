"""Sharpness-aware minimisation (Foret et al., 2021): the gradient is taken at the worst point near
the weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from zoo.network import of_torch


@contextmanager
def climbed(model: nn.Module, rho: float) -> Iterator[None]:
    """Inside: weights at w + rho * g / |g|, gradients cleared; afterwards w again, to the bit.

    g: the gradients that stand in the model, |g| the L2 norm over all of them. A common factor,
    such as a loss scale, cancels. Batch norms count the pictures of the first pass only.
    """
    weights = {p: p.grad for p in model.parameters() if p.grad is not None}
    norm = nn.utils.get_total_norm(weights.values())
    before = [p.detach().clone() for p in weights]
    norms = [module for module in of_torch.batch_norms(model) if module.track_running_stats]
    # not finite where a loss scale is too high: the weights stay, the second pass is not finite
    # either, and the scaler skips the step
    with torch.no_grad():
        for p, gradient in weights.items():
            p.add_(torch.where(norm.isfinite(), gradient * (rho / norm.clamp(min=1e-12)), 0.0))
    for p in weights:
        p.grad = None
    # in training mode they compute with the batch's statistics, and leave the running ones
    for module in norms:
        module.track_running_stats = not module.training
    try:
        yield
    finally:
        for module in norms:
            module.track_running_stats = True
        with torch.no_grad():
            # put back, not subtracted, which would round
            for p, old in zip(weights, before, strict=True):
                p.copy_(old)

"""Knowledge distillation (Hinton et al., 2015): a model learns a teacher's answers beside the
labels."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import interpolate, kl_div

from finetune.recipe.fields import Recipe
from zoo.picture.preprocess import Preprocessing


@dataclass(frozen=True)
class Teacher:
    """A finished network of the same classes, and the input that it was made for."""

    model: nn.Module
    """In evaluation mode, its classes in the order of the student's."""
    pre: Preprocessing
    student: Preprocessing
    """How the pictures that it will be given are normalised."""
    own_size_only: bool
    """Whether it takes no other picture side than `pre.size`."""

    @torch.no_grad()
    def logits(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """float32 [B, C] for a student's training pictures, normalised anew where the teacher
        differs."""
        if (self.pre.mean, self.pre.std) != (self.student.mean, self.student.std):

            def channel(values: tuple[float, ...]) -> torch.Tensor:
                return x_BCHW.new_tensor(values)[:, None, None]

            colours_BCHW = x_BCHW * channel(self.student.std) + channel(self.student.mean)
            x_BCHW = (colours_BCHW - channel(self.pre.mean)) / channel(self.pre.std)
        if self.own_size_only and x_BCHW.shape[-1] != self.pre.size:
            x_BCHW = interpolate(
                x_BCHW, (self.pre.size, self.pre.size), mode="bilinear", antialias=True
            )
        return self.model(x_BCHW).float()


def distillation(
    loss: torch.Tensor, logits_BC: torch.Tensor, teacher_BC: torch.Tensor, recipe: Recipe
) -> torch.Tensor:
    """(1 - w) * loss + w * T^2 * KL(teacher at T, student at T), the mean over the batch; scalar.

    w is `distill_weight`, T `distill_temperature`: logits are divided by it, and T^2 keeps the size
    of the gradients (Hinton et al., section 2).
    """
    temperature, weight = recipe.distill_temperature, recipe.distill_weight
    divergence = kl_div(
        (logits_BC / temperature).log_softmax(1),
        (teacher_BC / temperature).log_softmax(1),
        reduction="batchmean",
        log_target=True,
    )
    return (1 - weight) * loss + weight * temperature**2 * divergence

"""A way round a crash: on the CPU, torch 2.14 with oneDNN writes beyond its memory in the gradient
of a strided 1x1 convolution of fewer than 8 channels in channels_last (the first layers of
MobileOne and FastViT)."""

from torch import Tensor, nn

FEWEST_CHANNELS = 8
"""3 and 4 channels crash, 8 do not."""


class EveryOther:
    """Hook that gives a convolution the places alone that its stride would take. Final."""

    def __init__(self, stride: tuple[int, int]):
        self.rows, self.columns = stride

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0][:, :, :: self.rows, :: self.columns],)


def without_strides(model: nn.Module) -> None:
    """Let such convolutions step over their input before they compute: the same sums, the same
    weights."""
    for module in model.modules():
        if type(module) is nn.Conv2d and _crashes(module):
            rows, columns = module.stride
            module.stride = (1, 1)
            module.register_forward_pre_hook(EveryOther((rows, columns)))


def _crashes(layer: nn.Conv2d) -> bool:
    return (
        layer.kernel_size == (1, 1)
        and layer.stride != (1, 1)
        and layer.padding == (0, 0)
        and layer.in_channels < FEWEST_CHANNELS
    )

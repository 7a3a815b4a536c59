"""Strided 1x1 convolutions of few channels are trained without torch's crash, and as without the
way round it."""

import copy

import torch
from torch import nn

from finetune.train.strided import without_strides


def test_the_same_output_and_gradients() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv2d(3, 16, 1, stride=2), nn.ReLU(), nn.Conv2d(16, 8, 1, stride=(2, 1))
    )
    model = copy.deepcopy(plain)
    without_strides(model)
    without_strides(model)  # again, as for the next phase of a run
    assert [part.stride for part in (model[0], model[2])] == [(1, 1), (2, 1)]
    assert list(model.state_dict()) == list(plain.state_dict())
    x = torch.randn(2, 3, 9, 12)
    for network in (plain, model, copy.deepcopy(model)):  # a moving average is a copy
        network.zero_grad()
        network(x).square().sum().backward()
        assert torch.allclose(network(x), plain(x), atol=1e-6)
        assert torch.allclose(network[0].weight.grad, plain[0].weight.grad, rtol=1e-4)


def test_channels_last_does_not_crash() -> None:
    """Without it this process ends with a segmentation fault."""
    model = nn.Conv2d(3, 48, 1, stride=2, bias=False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    without_strides(model)
    x = torch.randn(2, 3, 96, 96).contiguous(memory_format=torch.channels_last)
    for _ in range(10):
        model(x).square().sum().backward()
    assert torch.isfinite(model.weight.grad).all()

"""What a network takes, seen by a pass without memory: on torch's meta device tensors have shapes
and no values."""

from typing import Any

import torch
from torch import nn

from zoo.bases.catalog import Base
from zoo.host.errors import first_line
from zoo.network import build
from zoo.network.source import PLAIN_TRANSFORMERS
from zoo.network.weights import Weights

ERRORS = (RuntimeError, ValueError, AssertionError, IndexError, TypeError, ZeroDivisionError)
"""What networks raise for pictures that they cannot take; bat_resnext26ts an AssertionError without
words."""


class Trial:
    """A base's network without memory, to be asked which pictures it takes. Some tenths of a second
    for each size."""

    def __init__(self, base: Base, fetched: Weights):
        self._base, self._fetched = base, fetched
        source = build.source_of(base, fetched)
        # rather than taking what it is given
        self.one_size = source.fixed or source.module in PLAIN_TRANSFORMERS
        self._networks: dict[int | None, nn.Module] = {}
        self._errors: dict[tuple[int | None, int | None, int], str | None] = {}

    def takes_drop_path(self) -> bool:
        """Whether blocks of the network can be left out at random in training; VGG's, for one,
        cannot."""
        try:
            build.without_memory(self._base, self._fetched, classes=1, drop_path_rate=0.1)
        except build.NoSuchOption:
            return False
        return True

    def refused(self, side: int, *, pictures: int = 2, built_for: int | None = None) -> str | None:
        """Why so many pictures of `side` px cannot be passed in training, or None.

        `built_for`: the side that a network of one size is made for, if it is another. None also
        where the network cannot be tried so: two pictures of its own size do not pass either.
        """
        reason = self._error(built_for or side, side, pictures)
        # the second question is asked only where the first fails: a pass takes tenths of a second
        if reason is None or self._error(None, None, 2) is not None:
            return None
        return reason

    def _error(self, built_for: int | None, side: int | None, pictures: int) -> str | None:
        """What the pass raises; no side: the base's own. A run asks several times for the same,
        which is tried once."""
        asked = self._built(built_for), side, pictures
        if asked not in self._errors:
            self._errors[asked] = self._pass(*asked)
        return self._errors[asked]

    def _pass(self, built_for: int | None, side: int | None, pictures: int) -> str | None:
        network: Any = self._network(built_for)
        shown = side or network.pretrained_cfg["input_size"][-1]
        try:
            with torch.no_grad(), torch.device("meta"):
                # in training mode, where batch norms refuse a single value for each channel
                network.train()(torch.zeros(pictures, 3, shown, shown))
        except NotImplementedError:  # an operation that knows no shapes without values
            return None
        except ERRORS as error:
            return first_line(error) or type(error).__name__
        return None

    def _built(self, side: int | None) -> int | None:
        """The size that a network is made for; None where one network takes all sizes."""
        return side if self.one_size else None

    def _network(self, built_for: int | None) -> nn.Module:
        key = self._built(built_for)
        if key not in self._networks:
            self._networks[key] = build.without_memory(self._base, self._fetched, image_size=key)
        return self._networks[key]

"""Nothing in a data folder is lost in silence: the law on many made-up trees, and rows for what people really have."""

import itertools
import os
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetune import dataset
from finetune.dataset import Data, scan
from finetune.layout import like_split
from finetune.left_out import MOST_CONFLICTS, SHOWN, summary
from finetune.tree import read_tree
from tests.bad_pictures import ODD
from tests.finetune.made_pictures import png, rows, write_classes
from tests.finetune.odd_trees import Entry, Figures, assert_conserved, check, entries
from zoo.errors import UserError

FIGURES = Figures()


@settings(max_examples=600, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["plain", "plain", "splits"]), entries())
def test_every_entry_is_used_or_named_or_skipped(shape: str, wanted: list[Entry]) -> None:
    check(shape, wanted, FIGURES)

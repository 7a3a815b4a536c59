"""What a terminal shows, and what a file gets instead."""

import io

import pytest
from rich.console import Console

from finetune import progress


def shown(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> str:
    """What a bar within a bar, with a message between, writes."""
    out = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=out, force_terminal=terminal, width=200, highlight=False))
    with progress.bar("training", 64) as advance:
        advance(32, note="epoch 1/2  loss 0.693")
        with progress.bar("evaluating", 10) as inner:
            inner(10)
        progress.say("epoch 1 [done]")
        advance(32, note="epoch 2/2  loss 0.500")
    return out.getvalue()


def test_a_terminal_shows_bars_with_rate_time_left_and_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, terminal=True)
    for words in ("training", "evaluating", "64/64", "/s", "left", "0:00:00", "epoch 2/2  loss 0.500",
                  "epoch 1 [done]"):
        assert words in text, words


def test_a_file_gets_only_the_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, terminal=False) == "epoch 1 [done]\n"

"""What only a GPU can show."""

from pathlib import Path

import pytest
import torch

from finetune.pipeline import start
from finetune.recipe.run import Run
from zoo.contract import rundir

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA GPU; torch sees none here"
)


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_a_run_on_the_gpu_finishes_and_beats_chance(
    digits: Path, tmp_path: Path, amp: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if amp == "bf16" and not torch.cuda.is_bf16_supported():
        pytest.skip("this GPU has no bf16")
    start(Run(data=str(digits), out=tmp_path / "run"), {"epochs": 2, "image_size": 64, "amp": amp})
    assert capsys.readouterr().out.startswith("device: cuda")
    report = rundir.read_json(tmp_path / "run" / "report.json")
    assert report["device"].startswith("cuda")
    assert report["headline"]["top1"] > 0.6

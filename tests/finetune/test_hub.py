"""A base from the Hub: pulled by the real client over real HTTP, then fine-tuned."""

import subprocess
from pathlib import Path

import safetensors.torch
import timm
import torch

from tests import warm
from tests.hub_server import HubServer
from zoo.contract import rundir

REPO = "timm/vit_tiny_patch16_224.augreg_in21k"
TWICE = """
import runpy, sys
import pytest
from tests.made_base import end_quickly
end_quickly(pytest.MonkeyPatch())
for _ in range(2):
    try:
        runpy.run_module("finetune", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        assert not end.code, end.code
    print("end of a command", flush=True)
    sys.stdin.readline()
"""
"""The same command two times, without the import in between, and without what this test does not
look at."""


def test_vit_tiny_21k_is_pulled_and_fine_tuned(digits: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = timm.create_model("vit_tiny_patch16_224", num_classes=21_843).state_dict()
    with HubServer() as hub:
        hub.add(REPO, {"model.safetensors": safetensors.torch.save(state)})
        command = [
            "-c",
            TWICE,
            "--data",
            str(digits),
            "--base",
            "vit_tiny_21k",
            "--out",
            str(tmp_path / "run"),
            "--image-size",
            "32",
            "--epochs",
            "1",
            "--lr",
            "1e-5",
            "--features",
            "fp32",
            "--threads",
            "1",
        ]
        with warm.Process(
            warm.TORCH,
            command,
            env=hub.env(tmp_path),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            said = ""
            while not said.endswith("end of a command\n"):
                said += (line := process.stdout.readline())
                assert line, said
            asked = list(hub.requests)
            process.stdin.write("go on\n\n")
            process.stdin.flush()
            again = process.stdout.read()
        assert process.returncode == 0, said + again
        assert "already finished" not in said
        assert "already finished" in again
        assert hub.requests == asked
    report = rundir.read_json(tmp_path / "run" / "report.json")
    assert report["base"]["hub_id"] == REPO
    assert report["base"]["pretrained_on"] == "ImageNet-21k"
    model = timm.create_model(f"local-dir:{tmp_path / 'run'}", pretrained=True)
    assert model.patch_embed.img_size == (32, 32)
    assert model.head.weight.shape == (10, 192)
    # one epoch at 1e-5 moves a weight by 3 x 1e-5 at most: the rest is the file that was pulled
    moved = (
        (model.state_dict()["blocks.5.mlp.fc1.weight"] - state["blocks.5.mlp.fc1.weight"])
        .abs()
        .max()
        .item()
    )
    assert 0 <= moved <= 5e-5

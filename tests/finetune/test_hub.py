"""A base from the Hub: pulled by the real client over real HTTP, then fine-tuned."""

import subprocess
import sys
from pathlib import Path

import safetensors.torch
import timm
import torch

from tests.hub_server import HubServer
from zoo import rundir

ROOT = Path(__file__).parents[2]
REPO = "timm/vit_tiny_patch16_224.augreg_in21k"


def test_vit_tiny_21k_is_pulled_and_fine_tuned(digits: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = timm.create_model("vit_tiny_patch16_224", num_classes=21_843).state_dict()
    with HubServer() as hub:
        hub.add(REPO, {"model.safetensors": safetensors.torch.save(state)})
        command = [sys.executable, "-m", "finetune", "--data", str(digits), "--base", "vit_tiny_21k", "--out",
                   str(tmp_path / "run"), "--image-size", "32", "--epochs", "1", "--lr", "1e-5"]
        done = subprocess.run(command, cwd=ROOT, env=hub.env(tmp_path), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        asked = list(hub.requests)
        again = subprocess.run(command, cwd=ROOT, env=hub.env(tmp_path), capture_output=True, text=True)
        assert "already finished" in again.stdout
        assert hub.requests == asked
    report = rundir.read_json(tmp_path / "run" / "report.json")
    assert report["base"]["hub_id"] == REPO
    assert report["base"]["pretrained_on"] == "ImageNet-21k"
    model = timm.create_model(f"local-dir:{tmp_path / 'run'}", pretrained=True)
    assert model.patch_embed.img_size == (32, 32)
    assert model.head.weight.shape == (10, 192)
    # one epoch at 1e-5 moves a weight by 3 x 1e-5 at most: the rest is the file that was pulled
    moved = (model.state_dict()["blocks.5.mlp.fc1.weight"] - state["blocks.5.mlp.fc1.weight"]).abs().max().item()
    assert 0 <= moved <= 5e-5

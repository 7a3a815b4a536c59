"""Finished run folders with random weights: what an export needs, made in a second without
training."""

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.numpy import save_file
from timm.models import save_for_hf
from torch import nn

from export.graph.deployed import Deployed, DeployedParts
from export.proof import hard_pictures, torch_answer
from export.proof.open_run import open_run
from export.proof.product import Product
from zoo.answer.predict import Predictor
from zoo.contract import bundle, decision, rundir
from zoo.contract.decision import Decision, Early, Sets, Unknown
from zoo.network.forward import forward, head
from zoo.picture import tta
from zoo.picture.decoding import decode
from zoo.picture.preprocess import Preprocessing

LABELS = ("ant", "bee", "cat")
SIDE = 32
CALIBRATED = Decision(
    temperature=1.7,
    views="flip",
    unknown=Unknown(neighbours=2, shortest=0.05, threshold=0.4),
    sets=Sets(0.9, 0.2),
)
WITH_STAGE = replace(CALIBRATED, unknown=Unknown(2, 1.7, 0.4, Early(2, (0.05, 0.1, 0.1))))
"""Of a ResNet: the features of its third stage, at a stride of 8, are joined to the embedding."""
SQUASHED = Preprocessing(SIDE, "squash", 1.0)
SMALL_VIT = {"img_size": SIDE, "depth": 2}
"""Of timm's test_vit: with a third of its layers, an export takes half the time."""
SMALL_BEIT = {"img_size": SIDE, "depth": 2, "embed_dim": 48, "num_heads": 3}


@dataclass(frozen=True)
class Made:
    """What the run is like."""

    architecture: str = "test_resnet"
    arguments: dict[str, Any] = field(default_factory=dict)
    """Of timm's create_model."""
    pre: Preprocessing = SQUASHED
    decision: Decision = CALIBRATED
    pictures: int = 3


def made_model(made_run: Made) -> nn.Module:
    """Random weights, the head's so large that classes differ."""
    torch.manual_seed(0)
    model = timm.create_model(
        made_run.architecture, num_classes=len(LABELS), **made_run.arguments
    ).eval()
    last = head(model)
    with torch.no_grad():
        for norm in (part for part in model.modules() if isinstance(part, nn.BatchNorm2d)):
            norm.weight.copy_(torch.rand_like(norm.weight) + 0.5)
            norm.bias.copy_(torch.randn_like(norm.bias) * 0.1)
        if last is not None and last.bias is not None:
            logits = model(noise(made_run))
            last.weight.mul_(1 / logits.std(0).mean().clamp(min=1e-3))
            last.bias.sub_(model(noise(made_run)).mean(0))
    return model


def noise(made_run: Made, pictures: int = 8) -> torch.Tensor:
    """[pictures, 3, S, S], each with structure of its own."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(pictures, 3, 4, 4, generator=generator)
    return nn.functional.interpolate(coarse, size=(made_run.pre.size,) * 2, mode="bicubic")


@torch.no_grad()
def made_bank(model: nn.Module, made_run: Made) -> torch.Tensor:
    """Reference embeddings of length 1."""
    return torch.from_numpy(
        decision.unit(forward(model, noise(made_run), made_run.decision.early).embedding.numpy())
    )


def predictions(model: nn.Module, made_run: Made, paths: list[Path]) -> str:
    """The columns of predictions.csv that an export reads; what the model says is the label of each
    picture."""
    rows = ["path,split,label,predicted"]
    parts = DeployedParts(model, made_run.pre, made_run.decision, None)
    for path in paths:
        pixels = tta.prepare_views(decode(path), made_run.pre, tta.VIEWS[made_run.decision.views])
        said = LABELS[
            int(
                torch_answer.answer_by_torch(parts, pixels, has_map=False)
                .outputs["probabilities"]
                .argmax()
            )
        ]
        rows.append(f"val/{path.name},val,{said},{said}")
    return "\n".join(rows) + "\n"


def made_export(folder: Path, made_run: Made | None = None) -> Path:
    """Write a finished run and its validation pictures, and give the run folder: `folder /
    "run"`."""
    made_run = made_run or Made()
    run, data = folder / "run", folder / "data"
    (data / "val").mkdir(parents=True)
    run.mkdir()
    model = made_model(made_run)
    save_for_hf(
        model,
        str(run),
        {"label_names": list(LABELS)},
        safe_serialization=True,
        model_args=made_run.arguments,
        data_config=made_run.pre.to_config(),
    )
    rows = ["path,label,split,sha256,width,height"]
    for place in range(made_run.pictures):
        width, height = 40 + 9 * place, 50
        picture = data / "val" / f"{place}.PNG"
        hard_pictures.smooth(width, height).save(picture)
        rows.append(
            f"val/{place}.PNG,{LABELS[place % 3]},val,{rundir.digest(picture)},{width},{height}"
        )
    (data / "train").mkdir()
    trained = data / "train" / "0.png"
    hard_pictures.smooth(60, 48).save(trained)
    rows.append(f"train/0.png,ant,train,{rundir.digest(trained)},60,48")
    rundir.write_text(run / rundir.FILES, "\n".join(rows) + "\n")
    rundir.write_text(
        run / rundir.PREDICTIONS, predictions(model, made_run, sorted((data / "val").iterdir()))
    )
    rundir.write_json(run / rundir.LOCAL, {"data": str(data)})
    rundir.write_json(run / rundir.DECISION, made_run.decision.to_json())
    if made_run.decision.unknown:
        save_file({decision.BANK_KEY: made_bank(model, made_run).numpy()}, run / rundir.BANK)
    rundir.finish(run)
    return run


def onnx_bundle(run: Path) -> None:
    """A finished bundle for onnx with three examples, without the two further exports that its
    proof takes."""
    trained, folder = open_run(run), run / "bundles" / "onnx"
    deployed = Deployed(trained.parts, resize="op").eval()
    product = Product(deployed.outputs, deployed.resize, pixels=deployed)
    (folder / "examples").mkdir(parents=True)
    trained.write(deployed, folder / "model.onnx")
    bundle.write_description(folder, trained.describe("onnx", product, "fp32"))
    for name in (bundle.PARITY, bundle.PARITY_PAGE):
        (folder / name).write_text("{}")
    bundle.finish(folder)
    predictor, expected = Predictor(folder), {}
    for place, path in enumerate([*trained.pictures.values()][:3]):
        shutil.copyfile(path, folder / "examples" / f"{place}.png")
        expected[f"{place}.png"] = {"probabilities": predictor.predict(path).probabilities.tolist()}
    (folder / "examples" / "expected.json").write_text(json.dumps(expected))
    bundle.finish(folder)

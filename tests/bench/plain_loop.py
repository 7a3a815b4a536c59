"""The yardstick: what an engineer writes in an afternoon. AdamW 1e-3, one warm-up epoch, cosine,
crop and flip.

    python -m tests.bench.plain_loop --data emoji --size 96 --epochs 5 --seed 0

Same base and weights (EfficientNet-Lite0, ImageNet-1k), batch 32, contiguous memory, torchvision's
ImageFolder. It trains on all of train/ (and val/, where there is one) and reports test/ after the
last epoch.
"""

import argparse
import math
import time
from pathlib import Path

START = time.perf_counter()

import timm  # noqa: E402
import torch  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402
from torch.utils.data import ConcatDataset, DataLoader  # noqa: E402
from torchvision import transforms as T  # noqa: E402
from torchvision.datasets import ImageFolder  # noqa: E402

from zoo.bases import catalog  # noqa: E402
from zoo.network import weights  # noqa: E402


def pretrained(classes: int) -> torch.nn.Module:
    """EfficientNet-Lite0 with the pip package's weights and a fresh head."""
    model = timm.create_model("tf_efficientnet_lite0", num_classes=classes)
    state = weights.load_state(
        weights.fetch(catalog.find_base("efficientnet_lite0")),
        timm.create_model("tf_efficientnet_lite0").state_dict(),
    )
    model.load_state_dict(
        {name: t for name, t in state.items() if not name.startswith("classifier")}, strict=False
    )
    return model


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    torch.manual_seed(a.seed)
    normalise = T.Compose([T.ToTensor(), T.Normalize([0.5] * 3, [0.5] * 3)])
    crop = T.Compose([T.RandomResizedCrop(a.size), T.RandomHorizontalFlip(), normalise])
    whole = T.Compose([T.Resize(a.size), T.CenterCrop(a.size), normalise])
    parts = [
        ImageFolder(a.data / split, crop) for split in ("train", "val") if (a.data / split).is_dir()
    ]
    test = ImageFolder(a.data / "test", whole)
    loader = DataLoader(ConcatDataset(parts), batch_size=32, shuffle=True, drop_last=True)
    model = pretrained(len(test.classes))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    step, warmup, total = 0, len(loader), a.epochs * len(loader)
    for _ in range(a.epochs):
        model.train()
        for images, labels in loader:
            after = (step - warmup) / max(1, total - warmup)
            share = step / warmup if step < warmup else 0.5 + 0.5 * math.cos(math.pi * after)
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * share
            loss = cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    model.eval()
    with torch.inference_mode():
        batches = DataLoader(test, batch_size=64)
        right = sum((model(images).argmax(1) == labels).sum().item() for images, labels in batches)
    print(f"test top-1 {right / len(test):.4f} seconds {time.perf_counter() - START:.1f}")


if __name__ == "__main__":
    main()

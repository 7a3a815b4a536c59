"""GoogLeNet, SqueezeNet and ShuffleNetV2: the numbers of torchvision's own networks, and the way of
their weight files from a server to a base."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import timm
import torch
from torch import nn
from torchvision import models

from zoo.bases import catalog
from zoo.bases.rows import TORCHVISION, TORCHVISION_FILES
from zoo.host.errors import UserError
from zoo.hub import pins, torchvision_file
from zoo.network import weights
from zoo.network.build import build_network
from zoo.network.class_maps import has_map
from zoo.network.early import early_stage
from zoo.network.forward import data_config, forward, head
from zoo.network.torchvision_nets import NETWORKS, checkpoint_filter_fn

SIDE = 96
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def published(name: str) -> Any:
    """torchvision's own network, as it is with its weights, with random numbers everywhere."""
    torch.manual_seed(0)
    options: dict[str, Any] = {}
    if name == "googlenet":
        # as its weights are saved, with auxiliary heads, and as they are used
        options = {"aux_logits": True, "transform_input": True, "init_weights": False}
    network = getattr(models, name)(**options)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_the_numbers_are_those_of_torchvision(name: str) -> None:
    theirs = published(name)
    ours = timm.create_model(name).eval()
    ours.load_state_dict(checkpoint_filter_fn(theirs.state_dict(), ours))
    pictures = torch.rand(2, 3, SIDE, SIDE)
    config = data_config(ours)
    x = (pictures.movedim(1, 3) - torch.tensor(config["mean"])) / torch.tensor(config["std"])
    x_theirs = (pictures.movedim(1, 3) - MEAN) / STD
    expected = theirs(x_theirs.movedim(3, 1))
    seen = forward(ours, x.movedim(3, 1))
    if name.startswith("squeezenet"):
        # torchvision's head behind our features, and ours as that without its ReLU
        linear = theirs.classifier[1](seen.feature_map).mean((2, 3))
        assert torch.allclose(seen.logits, linear, rtol=1e-5, atol=1e-6)
        assert torch.equal(theirs.classifier(seen.feature_map).flatten(1), expected)
    else:
        assert torch.allclose(seen.logits, expected, rtol=1e-5, atol=1e-6)
    assert head(ours) is ours.get_classifier()
    assert has_map(ours, SIDE)
    assert early_stage(ours, 224) == 2


@pytest.mark.parametrize("name", TORCHVISION_FILES)
def test_the_configuration_is_that_of_torchvisions_weights(name: str) -> None:
    row = catalog.BY_TIMM_NAME[name]
    architecture = str(row.architecture)
    enum = models.get_model_weights(architecture)
    theirs = next(iter(enum))
    told, metrics = theirs.transforms(), theirs.meta["_metrics"]["ImageNet-1K"]
    config = timm.get_pretrained_cfg(architecture)
    assert row.url == theirs.url == config.url
    assert (told.interpolation.value, told.antialias) == ("bilinear", True)
    assert config.interpolation == "bilinear"
    assert told.crop_size[0] / told.resize_size[0] == config.crop_pct
    assert row.top1 == pytest.approx(metrics["acc@1"], abs=0.05)
    assert row.gmacs == pytest.approx(theirs.meta["_ops"], abs=0.006)


def test_every_row_has_its_file_and_its_network() -> None:
    names = [row[1] for row in TORCHVISION]
    assert names == list(TORCHVISION_FILES)
    assert [name.partition(".")[0] for name in names] == list(NETWORKS)
    assert catalog.find_base("timm/googlenet.tv_in1k") is catalog.find_base("googlenet_1k")
    assert catalog.find_architecture("squeezenet1_1").url is None


def test_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="takes pictures of 3 channels only"):
        timm.create_model("squeezenet1_1", in_chans=1)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is served as PyTorch's server is; the caches of this test are its own."""
    folder = tmp_path / "server"
    folder.mkdir()
    served = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("ZOOTUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv(torchvision_file.MIRROR, f"http://127.0.0.1:{served.server_port}/")
    yield folder
    served.shutdown()
    thread.join()
    served.server_close()


def put(folder: Path, name: str, *, zipped: bool = True) -> tuple[catalog.Base, Any]:
    """torchvision's file of a network with random numbers, and the base that asks for it."""
    network, file = published(name), io.BytesIO()
    torch.save(network.state_dict(), file, _use_new_zipfile_serialization=zipped)
    digest = hashlib.sha256(file.getvalue()).hexdigest()
    (folder / f"{name}-{digest[:8]}.pth").write_bytes(file.getvalue())
    row = catalog.find_base(f"{name}.tv_in1k")
    return replace(row, url=f"https://nowhere.invalid/{name}-{digest[:8]}.pth"), network


@pytest.mark.parametrize(
    ("name", "zipped"),
    [("googlenet", False), ("squeezenet1_1", True), ("shufflenet_v2_x0_5", True)],
)
def test_a_file_of_the_server_becomes_a_base(server: Path, name: str, zipped: bool) -> None:
    base, theirs = put(server, name, zipped=zipped)
    fetched = weights.fetch(base)
    assert fetched.path.parent == torchvision_file.cache()
    assert fetched.licence == "bsd-3-clause"
    ours = build_network(base, ["a", "b"], fetched=fetched)
    state = theirs.state_dict()
    for key, tensor in ours.state_dict().items():
        if not key.startswith(NETWORKS[name].head):
            assert torch.equal(tensor, state[key]), key
    assert ours.num_classes == 2
    # from the cache, without the server
    fetched.path.with_name("x").touch()
    (server / fetched.path.name).unlink()
    assert weights.fetch(base).sha256 == fetched.sha256


def test_other_bytes_are_refused(server: Path) -> None:
    base, _ = put(server, "shufflenet_v2_x0_5")
    file = server / str(base.url).rpartition("/")[2]
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match="is damaged: expected a sha256 that begins with"):
        weights.fetch(base)
    assert list(torchvision_file.cache().iterdir()) == []
    file.write_bytes(whole)
    fetched = weights.fetch(base)
    pin = pins.read_pin(str(base.url))
    assert pin is not None
    assert pin.sha256 == fetched.sha256
    # another file with the same first digits, which are few
    pins.write_pin(str(base.url), replace(pin, sha256="0" * 64))
    with pytest.raises(UserError, match="is not the file of the first pull"):
        weights.fetch(base)


def test_without_the_server_the_error_says_what_works(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = catalog.find_base("googlenet_1k")
    with pytest.raises(UserError, match="HTTP status 404: try again later, or set ZOOTUNE_"):
        weights.fetch(base)
    monkeypatch.setenv(torchvision_file.MIRROR, "http://127.0.0.1:9")
    with pytest.raises(UserError) as error:
        weights.fetch(base)
    text = str(error.value)
    assert text.startswith("cannot fetch http://127.0.0.1:9/googlenet-1378be20.pth: seen URLError")
    assert "bases that need no download: efficientnet_lite0" in text
    assert "python -m zoo pull googlenet_1k" in text
    monkeypatch.setenv(torchvision_file.MIRROR, "/etc")
    with pytest.raises(UserError, match="expected an address that begins with https://"):
        weights.fetch(base)
    assert not any(torchvision_file.cache().glob("*"))

"""Building a base with a fresh head, heads and features, sizes, finished runs; and 21k bases pulled
from the server."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from tests import warm
from tests.hub_server import HubServer
from zoo.bases.catalog import Base, find_base
from zoo.contract import rundir
from zoo.contract.decision import Early
from zoo.host.errors import UserError
from zoo.network import weights
from zoo.network.build import allowed_size_step, build_network, load_network
from zoo.network.early import early_stage
from zoo.network.forward import data_config, features, forward, head, set_head
from zoo.network.weights import Weights

LABELS = ["cat", "dog", "emu", "fox", "gnu"]


def named(architecture: str, tag: str = "") -> Base:
    return Base(architecture, architecture, tag, None)


def from_config(config: dict[str, Any], path: Path = Path("none")) -> tuple[Base, Weights]:
    """A base that is known by its config.json alone, like a Hub repository."""
    return Base("hf-hub:alice/x", None, "", "alice/x"), Weights(
        path, "test", None, "", None, config
    )


def saved(path: Path, state: dict[str, Tensor], config: dict[str, Any] | None = None) -> Weights:
    file = path / "model.safetensors"
    safetensors.torch.save_file(state, file)
    return Weights(file, "test", None, "", None, config)


def random_state(architecture: str, **options: Any) -> dict[str, Tensor]:
    """Weights in which every floating tensor is random, biases and norms too."""
    torch.manual_seed(0)
    state = timm.create_model(architecture, **options).state_dict()
    return {
        name: torch.rand(t.shape) if t.is_floating_point() else t.clone()
        for name, t in state.items()
    }


def heads_of(network: nn.Module) -> tuple[str, ...]:
    named_heads: Any = network.pretrained_cfg["classifier"]  # type: ignore[index]
    return tuple(
        f"{name}." for name in ((named_heads,) if isinstance(named_heads, str) else named_heads)
    )


TINY = (
    "test_vit",
    "test_vit2",
    "test_resnet",
    "test_efficientnet",
    "test_convnext",
    "test_byobnet",
    "test_mambaout",
    "test_nfnet",
)


@pytest.mark.parametrize(
    "architecture",
    [*TINY, "resnetv2_18", "mobilenetv3_small_050", "deit_tiny_distilled_patch16_224"],
)
@pytest.mark.parametrize("classes", [5, 11])
def test_build_loads_everything_but_the_head(
    tmp_path: Path, architecture: str, classes: int
) -> None:
    state = random_state(architecture, num_classes=classes)
    network = build_network(named(architecture), LABELS, fetched=saved(tmp_path, state))
    built, heads = network.state_dict(), heads_of(network)
    assert list(built) == list(state)
    for name, tensor in built.items():
        if name.startswith(heads):
            assert len(tensor) == len(LABELS)
            # fresh also when the number of classes is the same
            assert not torch.equal(tensor, state[name])
        else:
            assert torch.equal(tensor, state[name]), name


def test_packaged_weights_build_like_any_other() -> None:
    base = find_base("efficientnet_lite0")
    full = timm.create_model("tf_efficientnet_lite0").state_dict()
    state = weights.load_state(weights.fetch(base), full)
    built = build_network(base, LABELS).state_dict()
    assert [name for name in built if not torch.equal(built[name], state[name])] == [
        "classifier.weight",
        "classifier.bias",
    ]


def test_a_mismatch_lists_both_sides(tmp_path: Path) -> None:
    state = random_state("test_resnet")
    state["layer9.weight"] = torch.ones(4)
    state["conv1.0.weight"] = torch.ones(2, 3)
    del state["layer1.0.bn1.bias"], state["layer1.0.bn1.num_batches_tracked"]
    state["AuxLogits.fc.weight"] = torch.ones(3)
    ours = random_state("test_resnet")
    with pytest.raises(UserError, match="does not fit test_resnet") as caught:
        build_network(named("test_resnet"), LABELS, fetched=saved(tmp_path, state))
    lines = str(caught.value).splitlines()
    assert lines[1:-1] == [
        f"- conv1.0.weight {list(ours['conv1.0.weight'].shape)}",
        "+ conv1.0.weight [2, 3]",
        f"- layer1.0.bn1.bias {list(ours['layer1.0.bn1.bias'].shape)}",
        "+ layer9.weight [4]",
    ]
    with pytest.raises(UserError, match="does not fit test_convnext") as caught:
        build_network(
            named("test_convnext"),
            LABELS,
            fetched=saved(tmp_path, {"conv1.weight": torch.ones(2, 3)}),
        )
    lines = str(caught.value).splitlines()
    # the rest is counted
    assert [len([line for line in lines if line.startswith(sign)]) for sign in "-+"] == [20, 1]
    assert lines[-2].startswith("... and ")


def test_weights_without_a_classifier_may_lack_its_norm(tmp_path: Path) -> None:
    state = {
        name: tensor
        for name, tensor in random_state("test_convnext").items()
        if not name.startswith("head.")
    }
    config = {
        "architecture": "test_convnext",
        "num_classes": 0,
        "pretrained_cfg": {"classifier": "head.fc"},
    }
    base, _ = from_config(config)
    built = build_network(base, LABELS, fetched=saved(tmp_path, state, config)).state_dict()
    assert all(torch.equal(built[name], state[name]) for name in state)
    with pytest.raises(UserError, match=r"- head\.norm\.weight"):
        build_network(base, LABELS, fetched=saved(tmp_path, state, config | {"num_classes": 1000}))


@pytest.mark.parametrize("size", [96, 224])
@pytest.mark.parametrize(
    "architecture", ["test_vit", "beit_base_patch16_224", "eva02_tiny_patch14_224"]
)
def test_another_picture_size_resizes_what_depends_on_it(
    tmp_path: Path, architecture: str, size: int
) -> None:
    small = {} if architecture == "test_vit" else {"depth": 2}  # the full BEiT is large
    config = {
        "architecture": architecture,
        "num_classes": 1000,
        "model_args": small,
        "pretrained_cfg": timm.get_pretrained_cfg(architecture).to_dict(),
    }  # type: ignore[union-attr]
    fetched = saved(tmp_path, random_state(architecture, **small), config)
    base, _ = from_config(config)
    step = allowed_size_step(named(architecture))
    assert step == (14 if architecture.startswith("eva") else 16)
    network = build_network(base, LABELS, image_size=size // step * step, fetched=fetched).eval()
    assert data_config(network)["input_size"] == (3, size // step * step, size // step * step)
    with torch.inference_mode():
        assert network(torch.rand(2, *data_config(network)["input_size"])).shape == (2, 5)
    with pytest.raises(UserError, match=f"multiple of its patch of {step} px, seen 99"):
        build_network(base, LABELS, image_size=99, fetched=fetched)


@pytest.mark.parametrize(
    ("architecture", "step"),
    [
        ("vit_base_patch32_224", 32),
        ("vit_small_patch14_reg4_dinov2", 14),
        ("deit3_small_patch16_224", 16),
        ("vit_small_patch16_dinov3", 16),
        ("beitv2_base_patch16_224", 16),
        ("test_vit", 16),
        ("resnet50", 32),
        ("tf_efficientnet_lite0", 32),
        ("convnext_nano", 32),
        ("vgg11", 32),
        ("hgnetv2_b4", 32),
        ("swin_tiny_patch4_window7_224", None),
        ("maxvit_tiny_tf_224", None),
        ("hiera_tiny_224", None),
        ("cait_xxs24_224", None),
        ("halonet26t", None),
        ("mixer_b16_224", None),
    ],
)
def test_size_steps(architecture: str, step: int | None) -> None:
    assert allowed_size_step(named(architecture)) == step


def test_beit_tables_keep_their_meaning_when_resized(tmp_path: Path) -> None:
    config = {
        "architecture": "beit_base_patch16_224",
        "num_classes": 3,
        "model_args": {"depth": 1},
        "pretrained_cfg": timm.get_pretrained_cfg("beit_base_patch16_224").to_dict(),
    }  # type: ignore[union-attr]
    state = random_state("beit_base_patch16_224", num_classes=3, depth=1)
    # 14 patches a side at 224 px
    name, steps = "blocks.0.attn.relative_position_bias_table", torch.arange(27.0) - 13
    # each entry is its own vertical distance in patches
    state[name][:-3] = steps.repeat_interleave(27)[:, None]
    network = build_network(
        from_config(config)[0], LABELS, image_size=96, fetched=saved(tmp_path, state, config)
    )
    # 6 patches a side; linear between uneven points, hence the tolerance
    resized = network.state_dict()[name]
    expected = (torch.arange(11.0) - 5).repeat_interleave(11)[:, None].expand(121, 12)
    torch.testing.assert_close(resized[:-3], expected, atol=0.1, rtol=0)
    assert torch.equal(resized[-3:], state[name][-3:])


@pytest.mark.parametrize(
    "architecture",
    [
        "test_resnet",
        "test_efficientnet",
        "test_convnext",
        "mobilenetv4_conv_small",
        "hgnetv2_b0",
        "densenet121",
    ],
)
def test_nets_without_a_fixed_size_take_multiples_of_32(tmp_path: Path, architecture: str) -> None:
    fetched = saved(tmp_path, random_state(architecture))
    network = build_network(named(architecture), LABELS, image_size=96, fetched=fetched).eval()
    with torch.inference_mode():
        assert [network(torch.rand(1, 3, size, size)).shape for size in (96, 160)] == [(1, 5)] * 2


def test_a_fixed_size_is_refused_otherwise(tmp_path: Path) -> None:
    base = named("swin_tiny_patch4_window7_224")
    with pytest.raises(UserError, match="takes pictures of 224 px only, not 96"):
        build_network(
            base, LABELS, image_size=96, fetched=Weights(tmp_path, "", None, "", None, None)
        )


def test_rates_reach_the_model_or_are_refused(tmp_path: Path) -> None:
    fetched = saved(tmp_path, random_state("test_vit"))
    network = build_network(named("test_vit"), LABELS, drop_path=0.3, dropout=0.25, fetched=fetched)
    assert max(
        getattr(module, "drop_prob", 0.0) or 0.0 for module in network.modules()
    ) == pytest.approx(0.3)
    assert 0.25 in [module.p for module in network.modules() if isinstance(module, nn.Dropout)]
    state = random_state("legacy_seresnet18")
    fetched = saved(tmp_path, state)
    assert (
        build_network(named("legacy_seresnet18"), LABELS, dropout=0.1, fetched=fetched).drop_rate
        == 0.1
    )
    with pytest.raises(
        UserError, match=r"legacy_seresnet18 has no drop-path: expected 0, seen 0\.3"
    ):
        build_network(named("legacy_seresnet18"), LABELS, drop_path=0.3, fetched=fetched)


@pytest.mark.parametrize(
    "architecture", [*TINY, "resnetv2_50x1_bit", "mobilenetv3_small_050", "vgg11", "hgnetv2_b0"]
)
def test_head_of_features_is_the_model(architecture: str) -> None:
    torch.manual_seed(1)
    # VGG-11 has 129 million weights, 119 million of them in the layers that mlp_ratio narrows
    narrow = {"mlp_ratio": 1 / 64} if architecture == "vgg11" else {}
    network = timm.create_model(architecture, num_classes=5, **narrow)
    last = head(network)
    assert isinstance(last, nn.Conv2d if architecture.startswith("resnetv2") else nn.Linear)
    assert network.training  # as it was
    width = last.weight.shape[1]
    weight, bias = torch.randn(5, width), torch.randn(5)
    set_head(network, weight, bias)
    network.eval()
    # BiT takes any size, and 448 px by default
    x = torch.rand(
        2,
        *(
            (3, 128, 128)
            if architecture.startswith("resnetv2")
            else data_config(network)["input_size"]
        ),
    )
    with torch.inference_mode():
        pooled = features(network, x)
        assert pooled.shape == (2, width)
        torch.testing.assert_close(pooled @ weight.T + bias, network(x), rtol=1e-4, atol=1e-4)
        seen = forward(network, x)
        torch.testing.assert_close(seen.logits, network(x))
        torch.testing.assert_close(seen.embedding, pooled)
        torch.testing.assert_close(seen.feature_map, network.forward_features(x))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("architecture", "stage"),
    [("test_resnet", 2), ("test_efficientnet", 2), ("test_convnext", 1), ("test_vit", None)],
)
def test_an_earlier_stage_is_joined_to_the_embedding(architecture: str, stage: int | None) -> None:
    torch.manual_seed(0)
    network: Any = timm.create_model(architecture, num_classes=5)
    size = data_config(network)["input_size"][-1]
    assert early_stage(network, size) == stage
    assert network.training
    if stage is None:
        return
    x = torch.rand(2, 3, size, size)
    network.eval()
    with torch.inference_mode():
        plain, seen = forward(network, x), forward(network, x, Early(stage, (1e-6, 1e-6, 1e6)))
        feature_map = network.forward_intermediates(x, intermediates_only=True)[stage]
    torch.testing.assert_close((seen.logits, seen.feature_map), (plain.logits, plain.feature_map))
    width, channels = plain.embedding.shape[1], feature_map.shape[1]
    own, mean, deviation = seen.embedding.split([width, channels, channels], 1)
    torch.testing.assert_close(own, plain.embedding / plain.embedding.norm(dim=1, keepdim=True))
    torch.testing.assert_close(mean.norm(dim=1), torch.ones(2))
    # weak: scaled to less than 1
    torch.testing.assert_close(deviation, feature_map.std((2, 3), correction=0) / 1e6)


@pytest.mark.parametrize(
    "architecture",
    ["deit_tiny_distilled_patch16_224", "levit_128s", "efficientvit_m0", "repvit_m1"],
)
def test_heads_that_are_not_one_linear_layer_are_none(architecture: str) -> None:
    network = timm.create_model(architecture, num_classes=5)
    for module in network.modules():
        # as after pretraining: the norm before the classifier does something
        if isinstance(module, nn.BatchNorm1d):
            nn.init.uniform_(module.weight)
    assert head(network) is None


def test_data_config_is_what_timm_would_use() -> None:
    assert data_config(timm.create_model("tf_efficientnet_lite0")) == {
        "input_size": (3, 224, 224),
        "interpolation": "bicubic",
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
        "crop_pct": 0.875,
        "crop_mode": "center",
    }


@pytest.mark.parametrize(
    "config",
    [
        {
            "architecture": "test_resnet",
            "num_classes": 3,
            "label_names": ["a", "b", "c"],
            "new_in_2030": 1,
            "pretrained_cfg": {
                "input_size": [3, 160, 160],
                "mean": [0.1, 0.2, 0.3],
                "classifier": "fc",
                "new_in_2030": 1,
                "url": "http://127.0.0.1:9/x",
                "file": "/nowhere",
            },
            "model_args": {"checkpoint_path": "/nowhere", "num_classes": 3, "drop_rate": 0.9},
        },
        {
            "architecture": "test_resnet",
            "num_classes": 3,
            "labels": ["a", "b", "c"],
            "input_size": [3, 160, 160],
            "mean": [0.1, 0.2, 0.3],
            "classifier": "fc",
        },  # timm's layout before 2023
    ],
)
def test_config_json_says_what_to_build(tmp_path: Path, config: dict[str, Any]) -> None:
    fetched = saved(tmp_path, random_state("test_resnet", num_classes=3), config)
    network = build_network(Base("hf-hub:alice/x", None, "", "alice/x"), LABELS, fetched=fetched)
    assert data_config(network)["input_size"] == (3, 160, 160)
    assert data_config(network)["mean"] == (0.1, 0.2, 0.3)
    assert data_config(network)["crop_mode"] == "center"  # timm's default
    assert network.drop_rate == 0.0
    assert not {"url", "file", "label_names"} & set(network.pretrained_cfg)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "seen"),
    [
        (None, "has no config.json"),
        ({"model_type": "vit", "hidden_size": 3}, r"seen None \(keys: model_type, hidden_size\)"),
        ({"architecture": "vit_enormous"}, "seen 'vit_enormous'"),
        ({"architecture": "test_resnet", "model_args": {"wings": 2}}, r"seen \{'wings': 2\}"),
    ],
)
def test_a_config_json_that_is_not_timms_is_refused(
    tmp_path: Path, config: dict[str, Any] | None, seen: str
) -> None:
    base, fetched = from_config(config or {}, saved(tmp_path, {"w": torch.ones(1)}).path)
    fetched = fetched if config else Weights(fetched.path, "", None, "", None, None)
    with pytest.raises(UserError, match=seen):
        build_network(base, LABELS, fetched=fetched)


def test_unknown_names_of_timm_are_refused() -> None:
    with pytest.raises(UserError, match=r"seen only .*resnet18\.a1_in1k"):
        allowed_size_step(named("resnet18", "nowhere"))
    with pytest.raises(UserError, match="no such architecture"):
        allowed_size_step(named("resnet19", "a1_in1k"))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run folder as `finetune` leaves it: timm's layout, at 96 px."""
    network = timm.create_model("test_vit", num_classes=3, img_size=96)
    network.load_state_dict(random_state("test_vit", num_classes=3, img_size=96))
    folder = tmp_path / "run"
    timm.models.save_for_hf(
        network, str(folder), {"label_names": ["a", "b", "c"]}, safe_serialization=True
    )
    config = json.loads((folder / rundir.CONFIG).read_text())
    config["model_args"].pop("num_classes", None)
    rundir.write_json(folder / rundir.CONFIG, config)
    rundir.finish(folder)
    return folder


def test_load_gives_the_model_that_timm_gives(run: Path) -> None:
    network, x = load_network(run), torch.rand(2, 3, 96, 96)
    assert not network.training
    theirs = timm.create_model(f"local-dir:{run}", pretrained=True).eval()
    with torch.inference_mode():
        assert torch.equal(network(x), theirs(x))
    assert data_config(network)["input_size"] == (3, 96, 96)


def test_load_refuses_what_is_not_the_finished_run(run: Path) -> None:
    file = run / rundir.WEIGHTS
    good = file.read_bytes()
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(UserError, match=r"model\.safetensors changed .*\(sha256 differs\): copy"):
        load_network(run)
    safetensors.torch.save_file({"w": torch.ones(2)}, file)
    rundir.finish(run)
    with pytest.raises(UserError, match=r"- patch_embed\.proj\.weight"):
        load_network(run)
    (run / rundir.FINISHED).unlink()
    with pytest.raises(UserError, match=r"has no FINISHED\.json"):
        load_network(run)


def test_load_compares_only_the_files_that_make_the_model(run: Path) -> None:
    rundir.write_text(run / "report.html", "<p>")
    rundir.finish(run)
    rundir.write_text(run / "report.html", "<p>changed")
    assert data_config(load_network(run))["input_size"] == (3, 96, 96)
    rundir.write_text(run / rundir.CONFIG, (run / rundir.CONFIG).read_text().replace('"a"', '"z"'))
    with pytest.raises(UserError, match=r"run: config\.json changed .*\(sha256 differs\): copy"):
        load_network(run)


@pytest.mark.parametrize("size", [None, 160])
def test_a_run_is_a_base_too(run: Path, size: int | None) -> None:
    base = find_base(str(run))
    assert allowed_size_step(base) == 16
    network = build_network(base, ["a", "b", "c"], image_size=size)
    old, new = safetensors.torch.load_file(run / rundir.WEIGHTS), network.state_dict()
    different = [
        name
        for name in new
        if new[name].shape != old[name].shape or not torch.equal(new[name], old[name])
    ]
    assert different == (["pos_embed"] if size else []) + ["head.weight", "head.bias"]
    assert data_config(network)["input_size"][1] == (size or 96)


CLIENT = (
    "import sys; from zoo.bases.catalog import find_base; from zoo.network.weights import fetch; "
    "fetch(find_base(sys.argv[1]))"
)


@pytest.fixture
def pulled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """pulled(alias, files): the base, pulled by the real client in its own process; then this
    process has its cache."""

    def pull(alias: str, files: dict[str, bytes | Path]) -> Base:
        base = find_base(alias)
        with HubServer() as hub:
            hub.add(str(base.hub_id), files)
            warm.run(warm.HUB, ["-c", CLIENT, alias], env=hub.env(tmp_path), check=True)
        monkeypatch.setenv("ZOOTUNE_HOME", str(tmp_path / "zootune"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
        # what is pinned asks nobody
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
        return base

    yield pull
    # pytest keeps the folders of three runs: not with 800 MB in each
    shutil.rmtree(tmp_path / "hf")


def test_vit_tiny_from_21k_is_pulled_and_built(tmp_path: Path, pulled: Any) -> None:
    state = random_state("vit_tiny_patch16_224", num_classes=21843)
    base = pulled("vit_tiny_21k", {"model.safetensors": saved(tmp_path, state).path})
    for size in (224, 96):
        network = build_network(base, LABELS, image_size=size).eval()
        built = network.state_dict()
        different = [
            name
            for name in state
            if built[name].shape != state[name].shape or not torch.equal(built[name], state[name])
        ]
        assert different == (["pos_embed"] if size == 96 else []) + ["head.weight", "head.bias"]
        with torch.inference_mode():
            assert network(torch.rand(1, 3, size, size)).shape == (1, 5)
    resized = timm.layers.resample_abs_pos_embed(
        state["pos_embed"], new_size=[6, 6], num_prefix_tokens=1
    )
    torch.testing.assert_close(built["pos_embed"], resized)


@pytest.mark.skipif(
    shutil.disk_usage(os.environ.get("TMPDIR", "/tmp")).free < 2e9,
    reason="needs 2 GB of disk space",
)
def test_vit_base_from_21k_is_pulled_and_built(tmp_path: Path, pulled: Any) -> None:
    with torch.device("meta"):
        shapes = timm.create_model("vit_base_patch16_224", num_classes=21843).state_dict()
    state = {
        name: torch.full(tensor.shape, float(number))
        for number, (name, tensor) in enumerate(shapes.items())
    }
    file = saved(tmp_path, state).path
    assert file.stat().st_size > 400e6
    del state
    base = pulled("vit_base_21k", {"model.safetensors": file})
    file.unlink()
    network = build_network(base, LABELS)
    wrong = [
        name
        for number, (name, tensor) in enumerate(network.state_dict().items())
        if not name.startswith("head.") and not bool((tensor == number).all())
    ]
    assert wrong == []
    assert data_config(network)["mean"] == (0.5, 0.5, 0.5)

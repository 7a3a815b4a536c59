"""Weights, configurations and repositories of strangers: one `UserError`, soon, without much
memory, and no code."""

import json
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch

from tests import warm
from tests.hub_server import HubServer
from tests.zoo.hostile_weights import PICKLES, SAFETENSORS, tensors_file, write
from zoo.bases import timm_config
from zoo.bases.catalog import ROWS, Base
from zoo.host.errors import UserError
from zoo.network import weights
from zoo.network.build import build_network
from zoo.network.weights import Weights

MOST_S, MOST_MB = 2.0, 300
"""Of one hostile file; seconds of this process's own work, as other processes share the machine."""


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def refused(path: Path) -> str:
    """What the error for a weight file says, which comes within the bounds."""
    before_mb, before_s = peak_mb(), time.process_time()
    with pytest.raises(UserError) as caught:
        weights.load_state(Weights(path, "test", None, "", None, None), {})
    assert time.process_time() - before_s < MOST_S
    assert peak_mb() - before_mb < MOST_MB
    assert len(str(caught.value)) < 1000
    assert "\x1b" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_is_refused_before_it_takes_memory(tmp_path: Path, name: str) -> None:
    assert str(tmp_path / "w.pt") in refused(write(tmp_path, "w.pt", PICKLES[name]()))


@pytest.mark.parametrize("name", SAFETENSORS)
def test_a_header_is_refused_before_it_takes_memory(tmp_path: Path, name: str) -> None:
    content = SAFETENSORS[name]
    refused(write(tmp_path, "w.safetensors", content if isinstance(content, bytes) else content()))


def test_a_bomb_is_refused_where_memory_is_short(tmp_path: Path) -> None:
    """In a process that may take 300 MB more than it has with torch: what is not allocated there
    never is."""
    claimed = (
        "short storage",
        "huge storage",
        "expanded",
        "legacy that claims",
        "storage called",
        "large directory",
    )
    for name in claimed:
        write(tmp_path, f"{name}.pt", PICKLES[name]())
    write(tmp_path, "bomb.pt", PICKLES["deflated bomb"]())
    code = """
import resource, sys
from pathlib import Path
import torch
from zoo.host.errors import UserError
from zoo.network import weights
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 300_000_000, size + 300_000_000))
for path in sorted(Path(sys.argv[1]).glob("*.pt")):
    try:
        weights.unpickle(path)
    except UserError as error:
        assert "memory" not in str(error), error
        print("refused")
"""
    done = warm.run(warm.TORCH, ["-c", code, tmp_path])
    assert done.stdout.split() == ["refused"] * (len(claimed) + 1), done.stderr


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saves_is_read_bit_by_bit(tmp_path: Path, zipped: bool) -> None:
    network = timm.create_model("test_vit")
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.rand(1, 3, 160, 160)).sum().backward()
    optimizer.step()
    content = {
        "model": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": 7,
        "rates": [1e-3, None],
        "scalar": torch.tensor(3),
        "turned": torch.rand(3, 4).t(),
        "empty": torch.empty(0, 5),
        "none": None,
        "last": torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "size": torch.Size([1, 2]),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "true": torch.tensor([True]),
        "name": "\u00fc",
        **{
            str(kind): torch.ones(3).to(kind)
            for kind in (torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8)
        },
    }
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    compare(weights.unpickle(tmp_path / "w.pt"), torch.load(tmp_path / "w.pt", weights_only=True))


def compare(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, torch.Tensor):
        assert (ours.dtype, ours.stride()) == (theirs.dtype, theirs.stride())
        assert torch.equal(ours, theirs)
    elif isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key, value in theirs.items():
            compare(ours[key], value)
    elif isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs)
        for our, their in zip(ours, theirs, strict=True):
            compare(our, their)
    else:
        assert ours == theirs


def config(
    architecture: str, arguments: Any = None, pretrained: Any = None, **top: Any
) -> dict[str, Any]:
    """A config.json as timm writes it, with these changes."""
    published: Any = timm.get_pretrained_cfg(architecture)
    changed = {} if pretrained is None else pretrained
    kept = published.to_dict() | changed if isinstance(changed, dict) else changed
    content = {
        "architecture": architecture,
        "num_classes": 3,
        "model_args": arguments,
        "pretrained_cfg": kept,
    } | top
    return json.loads(json.dumps(content))


LIES = {
    "custom_load": True,
    "url": "http://127.0.0.1:9/x",
    "file": "/etc/passwd",
    "hf_hub_id": "x/y",
    "source": "file",
    "input_size": [3, 10**6, 10**6],
    "classifier": "__class__.__init__",
    "first_conv": "../x",
    "num_classes": 10**9,
}
CONFIGS: dict[str, tuple[Any, str]] = {
    "list": ([1], "its content"),
    "text": ("x", "its content"),
    "architecture": (config("test_resnet") | {"architecture": ["x"]}, "architecture"),
    "deep and wide": (
        config("vit_tiny_patch16_224", {"embed_dim": 10**7, "depth": 10**6}),
        "model_args.embed_dim",
    ),
    "deep": (config("vit_tiny_patch16_224", {"depth": 65_536}), "more than"),
    "wide": (config("vit_tiny_patch16_224", {"embed_dim": 65_536, "num_heads": 1}), "more than"),
    "deep list": (config("test_resnet", {"layers": [60_000] * 4}), "more than"),
    "many places": (
        config("vit_tiny_patch16_224", {"img_size": 1024, "patch_size": 1}),
        "more than",
    ),
    "stem": (config("resnet18", {"stem_size": 10**9}), "model_args.stem_size"),
    "functions": (
        config("test_resnet", {"act_layer": "os.system", "norm_layer": "eval"}),
        "'model_args'",
    ),
    "path": (config("test_resnet", {"weights": "/etc/passwd"}), "model_args.weights"),
    "object": (config("test_resnet", {"block_args": {"a": 1}}), "model_args.block_args"),
    "not finite": (config("test_resnet", {"drop": float("inf")}), "model_args.drop"),
    "nested lists": (config("test_resnet", {"layers": [[[[1]]]]}), "model_args.layers"),
    "long list": (config("test_resnet", {"layers": [1] * 1000}), "model_args.layers"),
    "arguments as a list": (config("test_resnet", [1]), "model_args"),
    "private argument": (config("test_resnet", {"__class__": 1}), "model_args"),
    "type error": (config("test_resnet", {"layers": 3}), "'model_args'"),
    "zero division": (config("vit_tiny_patch16_224", {"patch_size": 0}), "ZeroDivisionError"),
    "assertion": (config("resnet18", {"cardinality": 0}), "AssertionError"),
    "negative": (config("vit_tiny_patch16_224", {"mlp_ratio": -1}), "'model_args'"),
    "window": (
        config("swin_tiny_patch4_window7_224", {"window_size": 512}),
        "model_args.window_size",
    ),
    "pairs of places": (config("levit_128s", {"img_size": 1024}), "at most 448 px"),
    "lies": (config("test_resnet", {}, LIES), "pretrained_cfg."),
    "classes": (config("test_resnet", num_classes=10**9), "num_classes"),
    "classes as text": (config("test_resnet", num_classes="3"), "num_classes"),
    "labels": (config("test_resnet", label_names=["a"]), "the 1 of label_names"),
    "picture": (config("test_resnet", {}, {"input_size": 224}), "pretrained_cfg.input_size"),
    "channels": (
        config("test_resnet", {}, {"input_size": [1, 28, 28]}),
        "pretrained_cfg.input_size",
    ),
    "classifier": (
        config("test_resnet", {}, {"classifier": {"a": 1}}),
        "pretrained_cfg.classifier",
    ),
    "crop": (config("test_resnet", {}, {"crop_pct": 1e-9}), "pretrained_cfg.crop_pct"),
    "mean": (config("test_resnet", {}, {"mean": [float("nan")] * 3}), "pretrained_cfg.mean"),
    "std": (config("test_resnet", {}, {"std": [0, 0, 0]}), "pretrained_cfg.std"),
    "interpolation": (
        config("test_resnet", {}, {"interpolation": "\x1b[2J"}),
        "pretrained_cfg.interpolation",
    ),
    "pretrained as a list": (config("test_resnet", {}, [1]), "pretrained_cfg"),
    "other weights": (config("test_resnet"), "does not fit test_resnet"),
}
"""Name -> config.json, and what the error must name."""


@pytest.fixture(scope="module")
def tensors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight file of many small tensors, so that the count of them bounds nothing."""
    path = tmp_path_factory.mktemp("tensors") / "model.safetensors"
    safetensors.torch.save_file({f"t{i}": torch.ones(1) for i in range(1000)}, path)
    return path


def build_from(path: Path, content: Any) -> torch.nn.Module:
    return build_network(
        Base("hf-hub:m/x", None, "", "m/x"),
        ["a", "b"],
        fetched=Weights(path, "test", None, "", None, content),
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_json_is_refused_by_name(tensors: Path, name: str) -> None:
    content, word = CONFIGS[name]
    before_mb = peak_mb()
    with pytest.raises(UserError) as caught:
        build_from(tensors, content)
    assert peak_mb() - before_mb < MOST_MB
    assert word in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_arguments_that_are_no_part_of_a_network_are_not_followed(tmp_path: Path) -> None:
    network = timm.create_model("test_resnet", num_classes=3)
    safetensors.torch.save_file(network.state_dict(), tmp_path / "model.safetensors")
    arguments = {
        "checkpoint_path": "/etc/passwd",
        "pretrained": True,
        "model_name": "vit",
        "pretrained_filter_fn": "x",
        "features_only": True,
        "feature_cfg": {"feature_cls": "fx"},
        "device": "meta",
    }
    built = build_from(tmp_path / "model.safetensors", config("test_resnet", arguments))
    assert torch.equal(built.state_dict()["conv1.0.weight"], network.state_dict()["conv1.0.weight"])


def test_weights_that_are_not_finite_are_named(tmp_path: Path) -> None:
    state = timm.create_model("test_resnet", num_classes=3).state_dict()
    for value in (float("nan"), float("inf"), -float("inf")):
        broken = state | {"layer1.0.bn1.bias": torch.full_like(state["layer1.0.bn1.bias"], value)}
        safetensors.torch.save_file(broken, tmp_path / "model.safetensors")
        with pytest.raises(
            UserError, match=r"expected finite numbers, seen others in layer1\.0\.bn1\.bias"
        ):
            build_from(tmp_path / "model.safetensors", config("test_resnet"))
    # the head is not taken, so what stands there does not matter
    safetensors.torch.save_file(
        state | {"fc.bias": torch.full_like(state["fc.bias"], float("nan"))},
        tmp_path / "model.safetensors",
    )
    build_from(tmp_path / "model.safetensors", config("test_resnet"))


def test_tables_that_would_be_resized_without_end_are_compared_instead(tmp_path: Path) -> None:
    state = timm.create_model("test_vit", num_classes=3).state_dict()
    for name, lengths in (
        ("pos_embed", (1, 2, 4_000_000)),
        ("patch_embed.proj.weight", (1, 1, 2000, 2000)),
    ):
        safetensors.torch.save_file(
            state | {name: torch.ones(lengths)}, tmp_path / "model.safetensors"
        )
        began = time.process_time()
        with pytest.raises(UserError, match="does not fit test_vit"):
            build_from(tmp_path / "model.safetensors", config("test_vit"))
        assert time.process_time() - began < 5


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.alias)
def test_the_configurations_of_the_catalogue_pass(row: Base) -> None:
    published: Any = timm.get_pretrained_cfg(f"{row.architecture}.{row.tag}")
    content = json.loads(
        json.dumps(
            {
                "architecture": row.architecture,
                "num_classes": published.num_classes,
                "pretrained_cfg": published.to_dict(),
            }
        )
    )
    timm_config.check_config(content, row.alias)


@pytest.mark.parametrize(
    "arguments",
    [
        {"img_size": 384, "window_size": 24},
        {"global_pool": "avg", "in_chans": 3},
        {"class_token": False, "reg_tokens": 4},
        {"depths": [2, 2, 18, 2], "dims": [96, 192, 384, 768]},
        {"act_layer": "gelu_tanh", "norm_layer": "layernorm"},
        {"layers": [3, 4, 6, 3], "stem_width": 32, "stem_type": "deep"},
        {"init_values": 1e-5, "qkv_bias": True},
        {"img_size": [256, 320], "dynamic_img_size": True},
        {"mlp_ratio": 2.66, "pos_embed": "learn", "weight_init": "jax"},
        {"feat_sizes": [[14, 14], [7, 7]]},
        {"intermediate_size": 4304, "head_hidden_size": 1536},
    ],
)
def test_arguments_of_published_models_pass(arguments: dict[str, Any]) -> None:
    assert timm_config.arguments({"model_args": arguments}, "test") == arguments


CLIENT = """
import json, sys, time
from zoo.bases.catalog import find_base
from zoo.host.errors import UserError
from zoo.network import weights
from zoo.network.build import build_network
for name in json.loads(sys.argv[1]):
    began = time.process_time()
    try:
        base = find_base("hf-hub:" + name)
        fetched = weights.fetch(base)
        build_network(base, ["a", "b"], fetched=fetched)
        answer = {"licence": fetched.licence}
    except UserError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer | {"seconds": time.process_time() - began}))
"""
CARD = "---\nlicense: %s\n---\n"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HubServer, Path]]:
    """A Hub with hostile repositories, and a home for its clients."""
    home = tmp_path_factory.mktemp("home")
    safetensors.torch.save_file(
        timm.create_model("test_resnet", num_classes=3).state_dict(), home / "w.safetensors"
    )
    good = {
        "model.safetensors": (home / "w.safetensors").read_bytes(),
        "config.json": json.dumps(config("test_resnet")).encode(),
    }
    with HubServer() as server:
        for name, text in {
            "licence-list": "[a, b]",
            "licence-dict": "{a: b}",
            "licence-long": "x" * 100_000,
            "licence-escape": json.dumps("\x1b]0;x\x07"),
            "licence-none": "null",
            "licence-good": "mit",
        }.items():
            server.add(f"m/{name}", good | {"README.md": (CARD % text).encode()})
        server.add("m/up", good | {"../../../escape.json": b"x"})
        server.add("m/inside", good | {"bundles/../../x/model.onnx": b"x"})
        server.add("m/absolute", good | {"/etc/x.json": b"x"})
        server.add("m/escape", good | {"a\x1b[2J": b"x"})
        server.add("m/long-name", good | {"n" * 300: b"x"})
        server.add("m/many", good | {f"f{i}": b"x" for i in range(10_001)})
        server.add("m/nothing-of-ours", {f"f{i}.txt": b"x" for i in range(100)})
        server.add("m/size", good)
        for commit in server.repos["m/size"].commits.values():
            large = server.store(good["config.json"] + b" ")
            commit["config.json"] = type(large)(
                large.content, large.sha256, large.git_sha1, 1 << 40
            )
        server.add("m/list", good | {"config.json": b"[1]"})
        server.add(
            "m/key",
            good | {"config.json": json.dumps({"architecture": "x", "k\x1b]0;x\x07": 1}).encode()},
        )
        header = {"w\x1b]0;x\x07": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
        server.add("m/tensor", good | {"model.safetensors": tensors_file(header, b"\0" * 4)})
        server.add(
            "m/lies", good | {"config.json": json.dumps(config("test_resnet", {}, LIES)).encode()}
        )
        yield server, home
    shutil.rmtree(home)


REPOSITORIES = {
    "licence-list": None,
    "licence-dict": None,
    "licence-long": None,
    "licence-escape": None,
    "licence-none": None,
    "licence-good": "mit",
    "up": "not a plain path",
    "inside": "not a plain path",
    "absolute": "not a plain path",
    "escape": "not a plain path",
    "long-name": "not a plain path",
    "many": "at most 10,000",
    "nothing-of-ours": "and 80 more",
    "size": "config.json of 1099511627776 bytes",
    "list": "its content",
    "key": "whose 'architecture'",
    "tensor": "does not fit",
    "lies": "pretrained_cfg.",
}
"""Repository -> part of the error; for those of licences, the licence."""


def test_hostile_repositories_are_refused_or_taken_without_what_is_hostile(
    hub: tuple[HubServer, Path],
) -> None:
    server, home = hub
    names = json.dumps([f"m/{name}" for name in REPOSITORIES])
    done = warm.run(warm.TORCH, ["-c", CLIENT, names], env=server.env(home), check=True)
    answers = dict(zip(REPOSITORIES, map(json.loads, done.stdout.splitlines()), strict=True))
    for name, expected in REPOSITORIES.items():
        if name.startswith("licence"):
            assert answers[name].get("licence", "refused") == expected, name
        else:
            assert str(expected) in answers[name].get("error", "taken"), name
        assert "\x1b" not in json.dumps(answers[name], ensure_ascii=False), name
        assert "\\u001b" not in json.dumps(answers[name]), name
        assert answers[name]["seconds"] < 5, name
    assert not list(home.rglob("escape.json"))


def test_the_command_line_says_one_line_of_a_hostile_repository(
    hub: tuple[HubServer, Path],
) -> None:
    server, home = hub
    done = warm.run(warm.HUB, ["-m", "zoo", "pull", "hf-hub:m/up"], env=server.env(home / "other"))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(
        "error: m/up: expected a repository of weights, seen a file named"
    )
    assert "Traceback" not in done.stderr

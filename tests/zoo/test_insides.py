"""What zoo/network/of_torch.py and zoo/hub/of_huggingface_hub.py borrow is still there in the
installed versions; if not, the failure names the version and what is gone."""

import threading
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import CommitOperationAdd, HfApi
from torch import distributed as dist
from torch import nn

import tests.hub_writing  # noqa: F401 - its routes
from tests.borrowed import borrowed
from tests.hub_server import TOKEN, HubServer, User
from zoo.hub import of_huggingface_hub
from zoo.network import of_torch

ROOT = Path(of_torch.__file__).parents[2]


def of(inside: str) -> AbstractContextManager[None]:
    return borrowed("torch", inside)


@pytest.mark.parametrize(
    "inside",
    [
        "_BatchNorm",
        "registration_hook",
        "Connection closed by peer",
        "more than 1 value per channel",
        "cublas_status",
        "_dynamo",
    ],
)
def test_insides_of_torch_are_borrowed_in_one_file(inside: str) -> None:
    floors = (ROOT / floor for floor in ("zoo", "finetune", "export", "serve"))
    files = [path for floor in floors for path in floor.rglob("*.py")]
    users = {path for path in files if inside in path.read_text(encoding="utf-8")}
    assert {path.relative_to(ROOT).as_posix() for path in users} == {"zoo/network/of_torch.py"}


def test_batch_norms() -> None:
    with of("torch.nn.modules.batchnorm._BatchNorm, the class of all batch norms"):
        layers = (nn.BatchNorm1d(2), nn.BatchNorm2d(2), nn.BatchNorm3d(2), nn.SyncBatchNorm(2))
        assert of_torch.batch_norms(nn.Sequential(*layers, nn.GroupNorm(1, 2))) == [*layers]
        assert len(of_torch.batch_norms(timm.create_model("test_resnet"))) > 5
    with of("track_running_stats and affine of a batch norm"):
        assert all(layer.track_running_stats and layer.affine for layer in layers)


def test_every_layer_and_tensor_that_is_built_is_seen() -> None:
    names: list[str] = []
    with of("hooks for every module, parameter and buffer that is registered"):
        with of_torch.registrations_watched(lambda owner, name, part: names.append(name)):
            nn.Sequential(nn.BatchNorm1d(2))
        nn.Linear(2, 2)  # after the block, which sees it no more
        assert {"0", "weight", "running_mean"} <= set(names)
        assert names.count("weight") == 1


def test_a_process_that_is_gone() -> None:
    """Two processes of gloo, here in two threads, of which one ends."""
    store, groups = dist.HashStore(), {}

    def join(rank: int) -> None:
        groups[rank] = dist.ProcessGroupGloo(store, rank, 2, timedelta(seconds=20))

    threads = [threading.Thread(target=join, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    del groups[1]
    with pytest.raises(RuntimeError) as error:
        groups[0].allreduce([torch.ones(1)]).wait()
    with of("words by which gloo says that another process is gone"):
        assert of_torch.is_lost_contact(error.value)
    assert not of_torch.is_lost_contact(RuntimeError("shapes do not fit"))


def test_a_batch_norm_with_a_single_value() -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 (its words are what is looked at)
        nn.BatchNorm1d(2)(torch.zeros(1, 2))
    with of("words by which a batch norm says that it has one value a channel"):
        assert of_torch.is_lack_of_variance(str(error.value))
    assert not of_torch.is_lack_of_variance("expected 4D input (got 2D input)")


def test_a_full_device() -> None:
    for text in ("CUDA error: out of memory", "CUBLAS_STATUS_NOT_INITIALIZED when calling"):
        assert of_torch.is_out_of_memory(RuntimeError(text))
    assert of_torch.is_out_of_memory(torch.OutOfMemoryError(""))
    assert not of_torch.is_out_of_memory(ValueError("out of memory"))


def test_a_network_that_cannot_be_compiled() -> None:
    with of("the base class of torch.compile's errors"):
        assert of_torch.is_failed_compilation(torch._dynamo.exc.Unsupported("x"))
        assert not of_torch.is_failed_compilation(RuntimeError("x"))


@pytest.mark.parametrize(
    "inside", ["Error while uploading", "LFS batch", "metadata in README.md", "repo_folder_name"]
)
def test_insides_of_the_hubs_client_are_borrowed_in_one_file(inside: str) -> None:
    files = (
        path
        for floor in ("zoo", "finetune", "export", "serve")
        for path in (ROOT / floor).rglob("*.py")
    )
    users = {path for path in files if inside in path.read_text(encoding="utf-8")}
    assert {path.relative_to(ROOT).as_posix() for path in users} == {
        "zoo/hub/of_huggingface_hub.py"
    }


def test_words_of_the_hubs_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it raises for a large file that cannot be sent, one that is too large, and a card that
    is none."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    with HubServer() as hub:
        hub.log_in(TOKEN, User("alice"))
        api = HfApi(endpoint=hub.url, token=TOKEN)
        api.create_repo("alice/insides")

        def send(name: str, content: bytes) -> None:
            add = CommitOperationAdd(name, content)
            api.create_commit("alice/insides", [add], commit_message="a test")

        hub.fail("/upload/", 403)
        with (
            pytest.raises(RuntimeError) as failed,
            borrowed("huggingface_hub", "a RuntimeError around a failed upload"),
        ):
            send("model.onnx", b"weights")
        hub.largest = 3
        with (
            pytest.raises(ValueError) as large,  # noqa: PT011 (its words are what is looked at)
            borrowed("huggingface_hub", "a ValueError for a file that is too large"),
        ):
            send("model.onnx", b"weights")
        with (
            pytest.raises(ValueError) as card,  # noqa: PT011 (its words are what is looked at)
            borrowed("huggingface_hub", "a ValueError for a card's front matter"),
        ):
            send("README.md", b"---\n- list\n---\n")
    with borrowed("huggingface_hub", "words by which it says that an upload failed"):
        assert of_huggingface_hub.is_failed_upload(failed.value)
        assert failed.value.__cause__ is not None
    with borrowed("huggingface_hub", "words by which it says that the Hub refused a file"):
        assert of_huggingface_hub.is_refused_content(large.value)
    with borrowed("huggingface_hub", "words by which it says that the Hub refused a card"):
        assert of_huggingface_hub.is_refused_content(card.value)
    assert not of_huggingface_hub.is_failed_upload(RuntimeError("x"))
    assert not of_huggingface_hub.is_refused_content(ValueError("x"))


def test_where_the_hubs_client_keeps_a_repository() -> None:
    with borrowed("huggingface_hub", "a folder of snapshots of each repository in its cache"):
        place = of_huggingface_hub.snapshots("timm/resnet18.a1_in1k")
        assert place.parts[-2:] == ("models--timm--resnet18.a1_in1k", "snapshots")

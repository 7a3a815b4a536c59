"""What zoo/network/of_torch.py borrows is still there in the installed torch; if not, the failure
names the version and what is gone."""

import threading
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path

import pytest
import timm
import torch
from torch import distributed as dist
from torch import nn

from tests.borrowed import borrowed
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

"""Pushing to the Hub's protocol: what is sent, that a stopped push completes, and what errors
say."""

import json
import re
import shutil
import socket
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError

import tests.hub_writing  # noqa: F401 - its routes
from tests import warm
from tests.hub_server import TOKEN, Fault, HubServer, User, client_env
from tests.zoo.made_published import Client, made_finished
from zoo.contract import bundle, rundir
from zoo.host.errors import UserError
from zoo.hub import access, calls
from zoo.publish import push_command
from zoo.publish.push_command import PushOptions

SENT = {
    "FINISHED.json",
    "README.md",
    "bank.safetensors",
    "bundles/onnx/FINISHED.json",
    "bundles/onnx/bundle.json",
    "bundles/onnx/model.onnx",
    "bundles/onnx/parity.json",
    "bundles/onnx/timing.json",
    "config.json",
    "data.json",
    "decision.json",
    "figures/reliability.svg",
    "metrics.jsonl",
    "model.safetensors",
    "onnx/model.onnx",
    "preprocessor_config.json",
    "recipe.json",
    "report.json",
}


@dataclass
class World:
    """A Hub, a client that is logged in there, a run, and its staged files."""

    hub: HubServer
    client: Client
    run: Path
    files: dict[str, str]
    home: Path

    def push(self, repo: str, **goal: Any) -> dict[str, Any]:
        """Push the staged files to a repository."""
        return self.client("push", goal={"repo": repo, **goal}, files=self.files)

    def content(self, repo: str, branch: str = "main") -> dict[str, bytes]:
        """What lies in a repository."""
        found = self.hub.repos[repo]
        return {
            name: b"".join(blob.chunks(0, blob.size))
            for name, blob in found.commits[found.refs[branch]].items()
        }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("push")
    run = made_finished(folder)
    with HubServer() as hub:
        hub.log_in(TOKEN, User("alice", orgs=("acme",)))
        hub.log_in("hf_other", User("bob"))
        hub.log_in("hf_reads", User("alice", role="read"))
        client = Client(hub.env(folder / "home") | {"HF_TOKEN": TOKEN}, folder / "client.log")
        files = client(
            "stage", str(run), str(folder / "staged"), repo="alice/insects", examples=False
        )
        world = World(
            hub, client, run, {name: path for name, path in files.items() if "." in name}, folder
        )
        yield world
        client.stop()


@pytest.fixture(autouse=True)
def no_faults(world: World) -> Iterator[None]:
    yield
    world.hub.failing.clear()
    world.hub.saying.clear()
    world.hub.fault = world.hub.dropping = world.hub.largest = None


def test_what_is_sent_is_the_allow_list_and_nothing_of_this_machine(world: World) -> None:
    assert set(world.files) == SENT
    for name, path in world.files.items():
        content = Path(path).read_bytes()
        for secret in (
            str(world.home),
            str(Path.home()),
            "/site-packages/",
            "secret name",
            "private name",
            "holiday plan",
            rundir.LEFT_OUT,
        ):
            assert secret.encode() not in content, (name, secret)
    assert json.loads(Path(world.files["recipe.json"]).read_text())["val"] == {
        "value": "val",
        "why": "set by hand: the folder val",
    }
    assert "num_classes" not in json.loads(Path(world.files["config.json"]).read_text()).get(
        "model_args", {}
    )


def test_the_run_itself_is_not_touched(world: World) -> None:
    rundir.open_finished(world.run, verify=True)
    assert bundle.open_bundle(world.run).run["finished_sha256"] == rundir.digest(
        world.run / rundir.FINISHED
    )


def test_the_published_copy_is_a_finished_run_with_its_bundle(world: World, tmp_path: Path) -> None:
    for name, path in world.files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(Path(path).read_bytes())
    manifest = rundir.open_finished(tmp_path, verify=True)
    assert manifest["run"] == rundir.digest(world.run / rundir.FINISHED)
    assert bundle.open_bundle(tmp_path).labels == ("ant", "bee", "cat")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(Exception, match=r"config\.json changed since the run finished"):
        rundir.open_finished(tmp_path, verify=True)


def test_a_dry_run_shows_exactly_what_a_push_sends(world: World) -> None:
    before = len(world.hub.requests)
    shown = world.client(
        "command", "push", str(world.run), "alice/shown", "--dry-run", "--with-examples"
    )
    assert len(world.hub.requests) == before
    listed = re.findall(r"^ +[\d,]+  [0-9a-f]{12}  (\S+)$", shown["out"], re.MULTILINE)
    assert {name for name in listed if "examples" not in name} == SENT
    pushed = world.client("command", "push", str(world.run), "alice/shown", "--with-examples")
    assert "read back and compared" in pushed["out"]
    # the same list, before it is sent
    assert pushed["out"].startswith(shown["out"].partition("nothing was sent")[0])
    assert world.hub.commits[-1] == ("alice/shown", listed)
    assert world.hub.repos["alice/shown"].private
    again = world.client("command", "push", str(world.run), "alice/shown", "--with-examples")
    assert "everything was there already" in again["out"]
    fewer = world.client("command", "push", str(world.run), "alice/shown")
    assert fewer["code"] == 0
    # the pictures are gone from the branch
    assert set(world.content("alice/shown")) == SENT | {".gitattributes"}


def test_a_push_is_completed_after_any_fault_and_nothing_is_pushed_twice(world: World) -> None:
    names = ("FINISHED.json", "README.md", "config.json", "model.safetensors", "onnx/model.onnx")
    files, began = {name: world.files[name] for name in names}, len(world.hub.requests)

    def push(repo: str) -> dict[str, Any]:
        return world.client("push", goal={"repo": repo}, files=files)

    push("alice/clean")
    expected, requests = world.content("alice/clean"), world.hub.requests[began:]
    assert set(expected) == {*names, ".gitattributes"}
    hit: Counter[str] = Counter()
    for kind in ("refused", "dropped", "lost"):
        for number in range(len(requests)):
            repo = f"alice/{kind}{number}"
            world.hub.fault = Fault(number, kind)
            first = push(repo)
            happened = world.hub.fault.happened
            assert happened, (kind, number)
            hit[happened[1].partition("?")[0].replace(repo, "REPO")[:25]] += 1
            world.hub.fault = None
            assert ("error" in first) == (kind == "refused"), (kind, happened, first)
            second = push(repo)
            assert "error" not in second, (kind, happened, second)
            assert world.content(repo) == expected, (kind, happened)
            assert sum(name == repo for name, _ in world.hub.commits) == 1, (kind, happened)
            uploads = Counter(sha for name, sha in world.hub.uploads if name == repo)
            # the client itself repeats an upload whose answer was lost: it cannot know that it
            # arrived
            allowed = 2 if kind == "lost" and happened[0] == "PUT" else 1
            assert max(uploads.values()) <= allowed, (kind, happened)
    assert {"/api/whoami-v2", "/api/repos/create", "/api/validate-yaml"} <= set(hit)
    assert sum(hit.values()) == 3 * len(requests) >= 39


def test_only_pictures_are_sent_as_examples(world: World, tmp_path: Path) -> None:
    run = made_finished(tmp_path)
    folder = run / bundle.BUNDLES / "onnx"
    picture = (folder / bundle.EXAMPLES / "1.png").read_bytes()
    expected = rundir.read_json(folder / bundle.EXAMPLES / bundle.EXPECTED)
    staying = {
        "notes.txt": b"PLANTED",
        "5.png": b"PLANTED, no picture",
        "page.html": picture,
        "1.png.exe": picture,
    }
    for name, content in {**staying, "unlisted.png": picture, "7.webp": picture}.items():
        (folder / bundle.EXAMPLES / name).write_bytes(content)
        if name != "unlisted.png":
            expected[name] = expected["1.png"]
    rundir.write_json(folder / bundle.EXAMPLES / bundle.EXPECTED, expected)
    bundle.finish(folder)
    into = tmp_path / "staged"
    answer = world.client("stage", str(run), str(into), repo="alice/x", examples=True)
    sent = {name.rpartition("/")[2] for name in answer if "/examples/" in name}
    assert sent == {"1.png", "7.webp", bundle.EXPECTED}
    assert set(rundir.read_json(into / "bundles/onnx/examples" / bundle.EXPECTED)) == sent - {
        bundle.EXPECTED
    }
    assert not [
        path for path in into.rglob("*") if path.is_file() and b"PLANTED" in path.read_bytes()
    ]


def test_a_killed_push_goes_on_where_it_was(world: World) -> None:
    world.hub.fail("/commit/", 501)
    assert "HTTP status 501" in world.push("alice/killed")["error"]
    sent = [sha for name, sha in world.hub.uploads if name == "alice/killed"]
    world.hub.failing.clear()
    assert world.push("alice/killed")["sent"]
    assert [sha for name, sha in world.hub.uploads if name == "alice/killed"] == sent
    assert len(sent) == 4


def test_a_busy_hub_is_asked_again_as_it_says(world: World) -> None:
    world.hub.fail("/api/whoami-v2", 429, times=1, headers={"Retry-After": "7"})
    world.hub.fail("/revision/main", 503, times=2, headers={})
    world.hub.fail("/commit/", 429, times=1, headers={"ratelimit": '"api";r=0;t=20'})
    done = world.push("alice/busy")
    assert done["sent"]
    assert done["waited"] == [7, 1, 2, 21]
    # a date of HTTP instead of seconds
    later = formatdate(time.time() + 30, usegmt=True)
    world.hub.fail("/api/whoami-v2", 503, times=1, headers={"Retry-After": later})
    world.hub.fail(
        "/commit/", 503, times=1, headers={"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}
    )
    done = world.client("push", goal={"repo": "alice/dated"}, files=world.files)
    assert done["sent"]
    first, second = done["waited"]
    assert 20 <= first <= 31
    assert second == 0
    for absurd in ("Sun, 06 Nov 99999 08:49:37 GMT", "soon", "-1", "Sun, 99 Nov 2026 08:49:37 GMT"):
        world.hub.failing.clear()
        world.hub.fail("/api/whoami-v2", 503, times=1, headers={"Retry-After": absurd})
        assert world.push("alice/dated")["waited"] == [1]


@pytest.mark.parametrize(
    ("path", "status", "headers", "said"),
    [
        (
            "/api/whoami-v2",
            429,
            {"Retry-After": "3000"},
            "too many requests; wait as long as it asks",
        ),
        ("/commit/", 500, {"Retry-After": "0"}, "HTTP status 500: try again later"),
        ("/preupload/", 404, {}, "HTTP status 404: no such place there; check HF_ENDPOINT"),
        ("/commit/", 412, {}, "somebody changed the repository during this push"),
        ("/commit/", 403, {}, "no right to write there"),
        ("/upload/", 413, {}, "a file or the whole push is too large"),
        (
            "/api/repos/create",
            409,
            {},
            "the name is taken by a repository that this token cannot see",
        ),
    ],
)
def test_what_the_hub_refuses_is_said(
    world: World, path: str, status: int, headers: dict[str, str], said: str
) -> None:
    world.hub.fail(path, status, headers=headers)
    assert said in world.push(f"alice/refused-{status}{len(headers)}")["error"]


@pytest.mark.parametrize(
    "path", ["whoami-v2", "create", "models/", "preupload", "/commit/", "batch"]
)
def test_an_answer_of_another_form_is_told(world: World, path: str) -> None:
    for number, body in enumerate((b"[1]", b"null", b"{}", b"<html>log in</html>")):
        world.hub.saying.clear()
        world.hub.say(path, body)
        error = world.push(f"alice/odd-{path.strip('/')}-{number}")["error"]
        assert "check HF_ENDPOINT, and whether a proxy" in error
    world.hub.saying.clear()
    assert world.push(f"alice/odd-{path.strip('/')}-0")["sent"]


@pytest.mark.parametrize("path", ["/api/whoami-v2", "/commit/", "/upload/"])
def test_no_token_follows_a_redirect_and_a_loop_ends(world: World, path: str) -> None:
    with HubServer() as other:
        world.hub.say(path, b"", 307, Location=f"{other.url}/api/whoami-v2")
        assert "error" in world.push(f"alice/away-{path.strip('/')[-6:]}")
        assert other.requests
        assert not other.credentials
    world.hub.say(path, b"", 307, Location=f"{world.hub.url}{path}x")
    refused = world.push(f"alice/loop-{path.strip('/')[-6:]}")
    assert "error" in refused
    assert not refused["waited"]  # it does not pass by itself


def test_more_errors_in_words(world: World) -> None:
    world.hub.largest = 10
    assert "file of" in (large := world.push("alice/large")["error"])
    assert "too large" in large
    world.hub.largest = None
    world.hub.dropping = "/upload/"
    broken = world.push("alice/broken")
    assert "connection that broke again and again" in broken["error"]
    assert "what has arrived is not sent again" in broken["error"]
    world.hub.dropping = None
    assert world.push("alice/broken")["sent"]
    refused = world.push("bob/insects")["error"]
    for part in ("bob/insects: expected ", " alice or acme ", "seen bob", "--pr"):
        assert part in refused
    world.hub.add("alice/else", {"model.safetensors": b"x"})
    assert "name alice/else is taken" in world.push("alice/else", public=True)["error"]
    assert "is public: expected --public" in world.push("alice/else")["error"]
    assert world.push("alice/hidden")["sent"]
    assert "is private: expected private" in world.push("alice/hidden", public=True)["error"]
    assert "does not exist" in world.push("alice/nothing", pull_request=True)["error"]
    assert world.push("acme/insects", public=True)["sent"]
    assert not world.hub.repos["acme/insects"].private


def test_a_read_back_that_differs_is_an_error(world: World) -> None:
    assert "error" not in world.push("alice/sent")  # so that the Hub has the file
    blob = world.hub.blobs[rundir.digest(Path(world.files["onnx/model.onnx"]))]
    blob.sha256, real = "0" * 64, blob.sha256
    try:
        assert ": onnx/model.onnx differs" in world.push("alice/other")["error"]
    finally:
        blob.sha256 = real


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (None, "expected a token of the Hub, seen none"),
        ("hf_wrong", "refuses the token (HTTP status 401)"),
        ("hf_reads", "may only read"),
    ],
)
def test_tokens_that_are_not_enough(
    world: World, tmp_path: Path, token: str | None, said: str
) -> None:
    client = Client(
        world.hub.env(tmp_path) | ({"HF_TOKEN": token} if token else {}), tmp_path / "log"
    )
    refused = client("push", goal={"repo": "alice/none"}, files=world.files)["error"]
    client.stop()
    assert said in refused
    assert "alice/none" not in world.hub.repos


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        *(("endpoint", address, "HF_ENDPOINT: expected an address such as")
          for address in ("", " ", "127.0.0.1:80", "ftp://x", "http://", "http://x y", "http://x?y",
                          "http://x:99999", "http://[::1", "http://a..b", f"http://{'a' * 64}.x")),
        *(("token", token, "the token of the Hub: expected")
          for token in ("hf_a b", "hf_ü", "hf_\x01")),
    ],
)  # fmt: skip
def test_an_address_or_a_token_that_no_request_can_have(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    if name == "endpoint":
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", value)
    else:
        monkeypatch.setenv("HF_TOKEN", value)
    with pytest.raises(UserError, match=said):
        access.check_access()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:8/hub")
    monkeypatch.setenv("HF_TOKEN", f"{TOKEN}\n")
    access.check_access()  # the client takes a line break at the end away


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_a_token_file_that_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    access.check_access()
    if content is None:
        (tmp_path / "token").mkdir()
    else:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(UserError, match="expected a file that holds a token"):
        access.check_access()


@pytest.mark.parametrize(
    "name",
    ["a--b", "a..b", "a.git", "a-", "a.", "-a", ".a", "é", "a b", "a" * 97, "", "a/b", "a\n"],
)
def test_a_name_that_the_hub_does_not_take_is_refused_before_anything_is_read(name: str) -> None:
    with pytest.raises(UserError, match="expected user/name of a repository on the Hub"):
        PushOptions(Path("no run"), f"alice/{name}")
    for taken in ("a", "A_", "a" * 96, "a-b.c_d", "0", "a.github"):
        PushOptions(Path("no run"), f"alice/{taken}")


@pytest.mark.parametrize(
    "name",
    ["", "a b", "a..b", "../a", "a//b", "-a", ".a", "a/", "a.", "a.lock", "é", "a\n", "0" * 40],
)
def test_a_branch_that_cannot_be_is_refused_before_anything_is_read(name: str) -> None:
    with pytest.raises(UserError, match="expected the name of a branch"):
        PushOptions(Path("no run"), "alice/insects", revision=name)
    for taken in ("main", "next", "user/next", "v1.0", "refs/pr/1"):
        PushOptions(Path("no run"), "alice/insects", revision=taken)


@pytest.mark.parametrize("other", [{"pr": True}, {"revision": "next"}])
def test_a_space_is_not_changed_where_the_run_is_only_proposed(other: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="--space: expected no --"):
        PushOptions(Path("no run"), "alice/insects", space=Path("space"), **other)


def test_the_next_commands_name_where_the_push_went() -> None:
    deployed = ["bundles/onnx/model.onnx"]
    options = PushOptions(Path("no run"), "alice/insects", revision="next")
    commands = push_command.next_steps(options, deployed, proposed=False)
    assert "serve hf-hub:alice/insects@next\n" in commands
    assert commands.endswith("--base hf-hub:alice/insects@next")
    options = PushOptions(Path("no run"), "alice/insects", pr=True)
    assert "once the pull request is merged" in push_command.next_steps(
        options, deployed, proposed=True
    )
    # without the exported model there is nothing to serve
    assert "serve" not in push_command.next_steps(options, [], proposed=False)


def test_no_network_is_told_within_three_seconds(world: World, tmp_path: Path) -> None:
    client = Client(
        client_env(tmp_path, "http://127.0.0.1:9") | {"HF_TOKEN": TOKEN}, world.client.log
    )
    answer = client("push", goal={"repo": "alice/none"}, files=world.files)
    client.stop()
    assert "cannot reach the Hub for alice/none" in answer["error"]
    assert "--dry-run does not" in answer["error"]
    assert answer["seconds"] + sum(answer["waited"]) < 3


def test_a_hub_that_says_nothing_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calls, "SILENT_S", 0.1)
    waited: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        api = HfApi(f"http://127.0.0.1:{silent.getsockname()[1]}", token=TOKEN)
        with pytest.raises(HTTPError, match="timed out"):
            calls.retried(api.whoami, sleep=waited.append)
    assert len(waited) == calls.ATTEMPTS - 1


def test_a_branch_and_a_pull_request(world: World) -> None:
    world.push("alice/branches")
    first = world.hub.repos["alice/branches"].refs["main"]
    changed = world.files | {"metrics.jsonl": world.files["recipe.json"]}
    done = world.client("push", goal={"repo": "alice/branches", "revision": "next"}, files=changed)
    assert (
        world.hub.repos["alice/branches"].refs["main"],
        world.hub.repos["alice/branches"].refs["next"],
    ) == (first, done["commit"])
    proposed = world.client(
        "push", goal={"repo": "alice/branches", "pull_request": True}, files=changed
    )
    assert proposed["url"].endswith("/alice/branches/discussions/1")
    assert world.hub.repos["alice/branches"].refs["refs/pr/1"] == proposed["commit"]
    assert world.hub.repos["alice/branches"].refs["main"] == first


HAND = b"\n## Intended use\nWritten by hand on the Hub.\n"


def edit(world: World, repo: str, changes: dict[str, bytes], gone: Collection[str] = ()) -> None:
    """A commit that somebody makes on the website."""
    found = world.hub.repos[repo]
    now = found.commits[found.refs["main"]]
    new = now | {name: world.hub.store(content) for name, content in changes.items()}
    found.commit({name: blob for name, blob in new.items() if name not in gone})


def merge(world: World, repo: str, number: int, **changes: bytes) -> None:
    """Merge a pull request on the website, as one commit, after somebody has changed files in
    it."""
    found = world.hub.repos[repo]
    files = found.commits[found.refs[f"refs/pr/{number}"]]
    files = files | {name: world.hub.store(content) for name, content in changes.items()}
    title = found.titles[found.refs[f"refs/pr/{number}"]]
    found.commit(files, title=f"{title} (#{number})")


def forget(world: World, known: bool) -> None:
    """Unless `known`: push from another machine, where nothing is recorded of earlier pushes."""
    if not known:
        (world.home / "home" / "zootune" / "pushes.json").unlink()


def with_other(world: World, folder: Path, **contents: str) -> dict[str, str]:
    """The staged files with one or more of a new state, and a FINISHED.json that fits."""
    files, manifest = dict(world.files), json.loads(Path(world.files["FINISHED.json"]).read_text())
    for stem, content in contents.items():
        [name] = [name for name in files if name.startswith(f"{stem}.")]
        (folder / name).write_text(content)
        files[name] = str(folder / name)
        manifest["files"][name] = rundir.digest(folder / name)
    rundir.write_json(folder / "FINISHED.json", manifest)
    return files | {"FINISHED.json": str(folder / "FINISHED.json")}


@pytest.mark.parametrize("known", [True, False])
def test_a_card_that_was_edited_on_the_hub_is_kept(
    world: World, tmp_path: Path, known: bool
) -> None:
    repo = f"alice/card-{known}"
    world.push(repo)
    edit(
        world,
        repo,
        {
            "README.md": world.content(repo)["README.md"] + HAND,
            "LICENSE": b"mine",
            "notes.txt": b"x",
            "figures/mine.svg": b"<svg/>",
        },
    )
    forget(world, known)
    newer = with_other(world, tmp_path, metrics='{"step": 1}\n')
    again = world.client("push", goal={"repo": repo}, files=newer)
    assert (again["sent"], again["kept"]) == (True, ["README.md"])
    now = world.content(repo)
    assert now["README.md"].endswith(HAND)
    assert now["metrics.jsonl"] == b'{"step": 1}\n'
    assert (now["LICENSE"], now["notes.txt"], now["figures/mine.svg"]) == (b"mine", b"x", b"<svg/>")
    assert (
        world.client("pull_run", f"hf-hub:{repo}")["commit"] == world.hub.repos[repo].refs["main"]
    )
    # what was kept is nobody's push: it is kept again, with and without a record
    for _ in range(2):
        same = world.client("push", goal={"repo": repo}, files=newer)
        assert (same["sent"], same["kept"]) == (False, ["README.md"])
        forget(world, False)
    over = world.client("push", goal={"repo": repo, "overwrite": True}, files=newer)
    assert (over["sent"], over["kept"]) == (True, [])
    assert world.content(repo)["README.md"] == Path(world.files["README.md"]).read_bytes()
    assert world.content(repo)["notes.txt"] == b"x"


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    "name", ["preprocessor_config.json", "model.safetensors", "bundles/onnx/bundle.json"]
)
def test_another_file_that_was_changed_on_the_hub_is_named_and_not_touched(
    world: World, tmp_path: Path, name: str, known: bool
) -> None:
    repo = f"alice/changed-{known}-{name.rpartition('/')[2]}"
    world.push(repo)
    edit(world, repo, {name: world.content(repo)[name] + b" ", "README.md": HAND})
    forget(world, known)
    before = world.content(repo)
    newer = with_other(world, tmp_path, metrics='{"step": 1}\n')
    error = world.client("push", goal={"repo": repo}, files=newer)["error"]
    assert f"README.md, {name} there" in error or f"{name} there" in error
    assert "Nothing was sent" in error
    assert "--overwrite" in error
    assert world.content(repo) == before
    assert world.client("push", goal={"repo": repo, "overwrite": True}, files=newer)["sent"]
    assert world.content(repo)[name] == Path(world.files[name]).read_bytes()


PLACES = sorted({*SENT, "bundles/onnx/examples/1.png", "bundles/onnx/examples/expected.json"})


@pytest.fixture(scope="module")
def all_kinds(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a push with examples sends."""
    into = tmp_path_factory.mktemp("kinds") / "staged"
    files = world.client("stage", str(world.run), str(into), repo="alice/kinds", examples=True)
    return {name: path for name, path in files.items() if "." in name}


@pytest.mark.parametrize("name", PLACES)
def test_any_file_that_was_edited_is_told_without_a_record_of_the_last_push(
    world: World, tmp_path: Path, all_kinds: dict[str, str], name: str
) -> None:
    assert set(all_kinds) == set(PLACES)
    repo = f"alice/kind-{PLACES.index(name)}"
    assert world.client("push", goal={"repo": repo}, files=all_kinds)["sent"]
    edit(world, repo, {name: world.content(repo)[name] + b" "})
    forget(world, False)
    before = world.content(repo)
    newer = all_kinds | {"metrics.jsonl": str(tmp_path / "metrics.jsonl")}
    (tmp_path / "metrics.jsonl").write_text('{"step": 3}\n')
    answer = world.client("push", goal={"repo": repo}, files=newer)
    if name == "README.md":
        assert answer["kept"] == [name]
        assert world.content(repo)[name] == before[name]
        return
    assert f"somebody has changed {name} there since" in answer["error"]
    assert "--overwrite" in answer["error"]
    assert world.content(repo) == before


@pytest.mark.parametrize("pushes", [1, 5])
def test_a_newer_run_replaces_an_older_push_of_another_machine(
    world: World, tmp_path: Path, all_kinds: dict[str, str], pushes: int
) -> None:
    repo = f"acme/newer-{pushes}"
    for number in range(pushes):
        files = {}
        for name in all_kinds if number % 2 else world.files:
            content = Path(all_kinds[name]).read_bytes()
            # lists stay as they are, so that they say of each push what it sent
            changed = content if name.endswith("FINISHED.json") else content + b" " * number
            place = tmp_path / str(number) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(changed)
            files[name] = str(place)
        done = world.client("push", goal={"repo": repo}, files=files)
        assert (done.get("sent"), done.get("kept")) == (True, []), done
        # on the website somebody adds what no push sends
        edit(world, repo, {f"notes{number}.txt": b"x"})
        forget(world, False)


def test_a_merged_pull_request_of_a_push_is_known_and_what_was_changed_in_it_is_told(
    world: World, tmp_path: Path
) -> None:
    world.push("alice/merged")
    proposed = with_other(world, tmp_path, metrics='{"step": 5}\n')
    goal = {"repo": "alice/merged"}
    world.client("push", goal=goal | {"pull_request": True}, files=proposed)
    forget(world, False)
    merge(world, "alice/merged", 1)
    assert world.push("alice/merged")["sent"]  # without a change of anybody else
    world.client("push", goal=goal | {"pull_request": True}, files=proposed)
    forget(world, False)
    merge(world, "alice/merged", 2, **{"model.safetensors": b"retrained"})
    assert "somebody has changed model.safetensors there" in world.push("alice/merged")["error"]


@pytest.mark.parametrize("history", ["rewritten", "not told"])
def test_what_no_history_tells_is_named_and_not_overwritten(
    world: World, tmp_path: Path, history: str
) -> None:
    repo = f"alice/{history.split()[0]}"
    world.push(repo)
    forget(world, False)
    if history == "rewritten":
        found = world.hub.repos[repo]
        files = found.commits[found.refs.pop("main")]
        found.commit(files, title="Super-squash branch 'main' using huggingface_hub")
    else:
        world.hub.fail("/commits/", 404)
    assert not world.push(repo)["sent"]  # nothing would be replaced
    forget(world, False)
    newer = with_other(world, tmp_path, metrics='{"step": 1}\n')
    error = world.client("push", goal={"repo": repo}, files=newer)["error"]
    assert "seen other content in FINISHED.json, metrics.jsonl there" in error
    assert "neither a record on this machine nor a commit of a push" in error
    assert "--overwrite" in error
    assert world.client("push", goal={"repo": repo, "overwrite": True}, files=newer)["sent"]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("name", ["README.md", "config.json", "bundles/onnx/model.onnx"])
def test_a_file_that_was_removed_on_the_hub_is_named_and_stays_away(
    world: World, name: str, known: bool
) -> None:
    repo = f"alice/removed-{known}-{name.rpartition('/')[2]}"
    world.push(repo)
    edit(world, repo, {"renamed.txt": b"x"}, gone=(name,))
    forget(world, known)
    error = world.push(repo)["error"]
    assert f"{name} there" in error
    assert "Nothing was sent" in error
    assert name not in world.content(repo)
    assert world.push(repo, overwrite=True)["sent"]
    assert world.content(repo)[name] == Path(world.files[name]).read_bytes()
    assert world.content(repo)["renamed.txt"] == b"x"


def test_the_mark_of_a_push_that_was_removed_or_a_repository_made_anew(world: World) -> None:
    world.push("alice/mark")
    edit(world, "alice/mark", {}, gone=("FINISHED.json",))
    assert "FINISHED.json there" in world.push("alice/mark")["error"]
    assert world.push("alice/mark", overwrite=True)["sent"]
    del world.hub.repos["alice/mark"]
    assert world.push("alice/mark")["sent"]
    assert set(world.content("alice/mark")) == SENT | {".gitattributes"}


def test_what_a_colleague_pushed_in_between_is_not_overwritten(
    world: World, tmp_path: Path
) -> None:
    world.push("acme/shared")
    ours = world.home / "home" / "zootune" / "pushes.json"
    (tmp_path / "ours.json").write_bytes(ours.read_bytes())
    (tmp_path / "hers").mkdir()
    (tmp_path / "ours").mkdir()
    ours.unlink()
    hers = with_other(
        world, tmp_path / "hers", metrics='{"step": 2}\n', README="---\nx: 1\n---\n# hers"
    )
    # she has no record, and nothing was edited
    done = world.client("push", goal={"repo": "acme/shared"}, files=hers)
    assert (done["sent"], done["kept"]) == (True, [])
    ours.write_bytes((tmp_path / "ours.json").read_bytes())
    before = world.content("acme/shared")
    newer = with_other(world, tmp_path / "ours", metrics='{"step": 1}\n')
    error = world.client("push", goal={"repo": "acme/shared"}, files=newer)["error"]
    assert "somebody has changed FINISHED.json, README.md, metrics.jsonl there since" in error
    assert world.content("acme/shared") == before
    for damaged in (
        "[]",
        "{",
        json.dumps({f"{world.hub.url} model acme/shared main": {"config.json": 1}}),
    ):
        ours.write_text(damaged)
        error = world.client("push", goal={"repo": "acme/shared"}, files=newer)["error"]
        assert "pushes.json is not as this program writes it" in error, damaged
        assert "Delete it" in error
    ours.unlink()


def test_a_space_goes_with_it(world: World, tmp_path: Path) -> None:
    space = tmp_path / "space"
    warm.run(warm.HUB, ["-m", "serve.space", str(world.run), "--out", str(space)], check=True)
    code = {
        path.relative_to(space).as_posix()
        for path in space.rglob("*")
        if path.is_file() and path.relative_to(space).parts[0] != "model"
    }
    model = {
        f"model/{name}" for name in SENT if name == "README.md" or name.startswith("bundles/onnx/")
    }
    (space / ".env").write_text("SECRET=1")
    done = world.client("command", "push", str(world.run), "alice/page", "--space", str(space))
    assert done["code"] == 0
    pushed = world.content("spaces/alice/page")
    assert set(pushed) == {".gitattributes", *code, *model}  # nothing of .env, no picture
    with (space / "model/bundles/onnx/bundle.json").open("a") as changed:
        changed.write(" ")
    refused = world.client("command", "push", str(world.run), "alice/page", "--space", str(space))
    assert "bundle.json is not the bundle " in refused["error"]
    assert "python -m serve.space RUN" in refused["error"]
    edit(world, "spaces/alice/page", {"README.md": HAND})
    shutil.copyfile(
        world.run / "bundles/onnx/bundle.json", space / "model/bundles/onnx/bundle.json"
    )
    for known in (True, False):
        forget(world, known)
        refused = world.client(
            "command", "push", str(world.run), "alice/page", "--space", str(space)
        )
        assert "README.md there" in refused["error"]
        assert world.content("spaces/alice/page")["README.md"] == HAND
    done = world.client(
        "command", "push", str(world.run), "alice/page", "--space", str(space), "--overwrite"
    )
    assert done["code"] == 0
    assert world.content("spaces/alice/page")["README.md"] != HAND
    refused = world.client(
        "command", "push", str(world.run), "alice/page", "--space", str(world.run)
    )
    assert "expected the folder of a Space" in refused["error"]


def test_a_token_in_a_name_is_not_published(world: World, tmp_path: Path) -> None:
    run = made_finished(tmp_path)
    recipe = rundir.read_json(run / rundir.RECIPE)
    rundir.write_json(run / rundir.RECIPE, recipe | {"flip": {"value": TOKEN, "why": "pasted"}})
    shutil.rmtree(run / bundle.BUNDLES)
    rundir.finish(run)
    answer = world.client(
        "stage", str(run), str(tmp_path / "staged"), repo="alice/x", examples=False
    )
    assert "recipe.json holds " in answer["error"]
    assert "access token" in answer["error"]
    assert "revoke it" in answer["error"]
    assert TOKEN not in answer["error"]


def test_zz_the_token_is_nowhere(world: World) -> None:
    """Last in this file: after everything above, in no log, message, file of this machine or of the
    Hub."""
    assert world.client.log.stat().st_size > 1_000
    places = [path for path in world.home.rglob("*") if path.is_file()]
    assert len(places) > 40
    for path in places:
        assert TOKEN.encode() not in path.read_bytes(), path
    assert all(
        TOKEN.encode() not in b"".join(blob.chunks(0, blob.size))
        for blob in world.hub.blobs.values()
    )

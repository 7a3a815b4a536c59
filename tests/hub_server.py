"""A Hugging Face Hub in memory: the HTTP protocol that the real clients speak, without the Hub.

    with HubServer() as hub:
        hub.add("timm/resnet18.a1_in1k", {"config.json": b"{}", "model.safetensors": Path("big.safetensors")})
        subprocess.run([...], env=hub.env(tmp_path))
        assert ("GET", "/api/models/timm/resnet18.a1_in1k") in hub.requests

Endpoints and headers as huggingface_hub 2.4 reads them (`hf_api.py`, `file_download.py`, `utils/_http.py`). Large files
(LFS) are redirected to another origin, as on the real Hub, and a token that arrives there is refused.
"""

import hashlib
import io
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

LFS_SUFFIXES = (".safetensors", ".bin", ".pth", ".onnx")
CHUNK = 1 << 20


@dataclass
class Blob:
    """The bytes of one version of a file: in memory, or a path that is streamed."""

    content: bytes | Path
    sha256: str
    git_sha1: str
    size: int
    damaged: bool = False
    """Serve it with one bit of the middle byte flipped; digest and size are announced as if nothing had happened."""

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes `start` to `stop` (exclusive), a megabyte at a time."""
        file: BinaryIO = self.content.open("rb") if isinstance(self.content, Path) else io.BytesIO(self.content)
        with file:
            file.seek(start)
            while start < stop and (chunk := file.read(min(CHUNK, stop - start))):
                middle = self.size // 2 - start
                if self.damaged and 0 <= middle < len(chunk):
                    chunk = chunk[:middle] + bytes([chunk[middle] ^ 1]) + chunk[middle + 1:]
                yield chunk
                start += len(chunk)


@dataclass
class Repo:
    """One model repository: commits are full listings, branches point at them."""

    gated: bool = False
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, Blob], branch: str = "main") -> str:
        """Make `files` the new state of a branch; the commit's id."""
        listing = "".join(f"{name} {blob.sha256}\n" for name, blob in sorted(files.items()))
        sha = hashlib.sha1(f"{len(self.commits)} {listing}".encode()).hexdigest()
        self.commits[sha], self.refs[branch] = files, sha
        return sha

    def card(self, commit: str) -> dict[str, Any]:
        """The front matter of README.md."""
        readme = self.commits[commit].get("README.md")
        text = b"".join(readme.chunks(0, readme.size)).decode() if readme else ""
        match = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
        return yaml.safe_load(match[1]) if match else {}


class Refused(Exception):
    """Becomes an error response: status and the Hub's X-Error-Code (None for a plain failure)."""

    def __init__(self, status: int, code: str | None, message: str):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class HubServer:
    """Context manager: a Hub on 127.0.0.1 that answers until the block ends."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, Blob] = {}
        self.requests: list[tuple[str, str]] = []
        self.failing: dict[str, int] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.lfs_url = f"http://localhost:{self._server.server_port}"

    def __enter__(self) -> "HubServer":
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(self, repo_id: str, files: Mapping[str, bytes | Path], *, gated: bool = False) -> str:
        """Create a repository with these files, or make them the next commit of its main branch; the commit's id."""
        repo = self.repos.setdefault(repo_id, Repo())
        repo.gated = gated
        return repo.commit({name: self.store(content) for name, content in files.items()})

    def store(self, content: bytes | Path) -> Blob:
        """Keep a file's bytes under their digest."""
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size)
        for chunk in Blob(content, "", "", size).chunks(0, size):
            sha256.update(chunk)
            git.update(chunk)
        return self.blobs.setdefault(sha256.hexdigest(), Blob(content, sha256.hexdigest(), git.hexdigest(), size))

    def corrupt(self, repo_id: str, filename: str, damaged: bool = True) -> None:
        """Flip one bit of what is served for the file on main, not of what is announced."""
        repo = self.repos[repo_id]
        repo.commits[repo.refs["main"]][filename].damaged = damaged

    def fail(self, path: str, status: int) -> None:
        """From now on answer every request whose path contains `path` with `status`."""
        self.failing[path] = status

    def env(self, home: Path, url: str | None = None) -> dict[str, str]:
        """Environment of a client process that uses this Hub, and `home` instead of the user's caches."""
        return client_env(home, url or self.url)

    def find(self, repo_id: str, revision: str) -> tuple[Repo, str]:
        """A repository and the commit that `revision` (branch or commit) names there."""
        repo = self.repos.get(repo_id)
        if repo is None:
            raise Refused(404, "RepoNotFound", "Repository not found")
        commit = repo.refs.get(revision, revision)
        if commit not in repo.commits:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repo, commit


def client_env(home: Path, url: str) -> dict[str, str]:
    """Environment for a client process: the Hub at `url`, caches and pins below `home`, no token of the user's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING", "ZOOTUNE_"))}
    return kept | {
        "HF_ENDPOINT": url, "HF_HOME": str(home / "hf"), "ZOOTUNE_HOME": str(home / "zootune"),
        "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1,localhost"}


class Handler(BaseHTTPRequestHandler):
    """Dispatches a request by ROUTES; `hub` is set on the class that HubServer makes."""

    hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.respond("GET")

    def do_HEAD(self) -> None:
        self.respond("HEAD")

    def respond(self, method: str) -> None:
        self.hub.requests.append((method, self.path))
        url = urlsplit(self.path)
        try:
            for path, status in self.hub.failing.items():
                if path in self.path:
                    raise Refused(status, None, "made to fail by the test")
            for wanted, pattern, handle in ROUTES:
                if method in wanted and (match := re.fullmatch(pattern, url.path)):
                    parts = {key: unquote(part) for key, part in match.groupdict().items() if part is not None}
                    return handle(self, **parts, **({"query": parse_qs(url.query)} if "api" in pattern else {}))
            raise Refused(404, None, "no such endpoint in the test server")
        except Refused as refused:
            self.send_refusal(refused)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client went away, which is its right

    def send_refusal(self, refused: Refused) -> None:
        codes = {"X-Error-Code": refused.code, "X-Error-Message": refused.message}
        self.send_json({"error": refused.message}, status=refused.status, headers={k: v for k, v in codes.items() if v})

    def send_json(self, value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        sizes = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        self.send_head(status, {**sizes, **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send_blob(self, blob: Blob, headers: Mapping[str, str]) -> None:
        """The bytes, or the part that a Range header asks for."""
        start, stop, status, extra = 0, blob.size, 200, {}
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            start, stop = int(match[1]), min(int(match[2]) + 1, blob.size) if match[2] else blob.size
            if start >= blob.size:
                return self.send_head(416, {"Content-Range": f"bytes */{blob.size}", "Content-Length": "0"})
            status, extra = 206, {"Content-Range": f"bytes {start}-{stop - 1}/{blob.size}"}
        sizes = {"Content-Length": str(stop - start), "Accept-Ranges": "bytes"}
        self.send_head(status, {"Content-Type": "application/octet-stream", **headers, **sizes, **extra})
        if self.command != "HEAD":
            for chunk in blob.chunks(start, stop):
                self.wfile.write(chunk)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the terminal: `hub.requests` is the log."""


def is_lfs(name: str) -> bool:
    return name.endswith(LFS_SUFFIXES)


def model_info(handler: Handler, repo: str, revision: str = "main", *, query: Mapping[str, list[str]]) -> None:
    """GET /api/models/{id}[/revision/{rev}][?blobs=true]; a gated repository shows its listing, not its files."""
    found, commit = handler.hub.find(repo, revision)
    siblings = []
    for name, blob in found.commits[commit].items():
        sibling: dict[str, Any] = {"rfilename": name}
        if "blobs" in query:
            sibling |= {"size": blob.size, "blobId": blob.git_sha1}
            sibling |= {"lfs": {"sha256": blob.sha256, "size": blob.size, "pointerSize": 134}} if is_lfs(name) else {}
        siblings.append(sibling)
    card = found.card(commit)
    handler.send_json({"_id": commit[:24], "id": repo, "modelId": repo, "sha": commit, "private": False,
                       "gated": "manual" if found.gated else False, "tags": card.get("tags", []), "downloads": 0,
                       "likes": 0, "pipeline_tag": card.get("pipeline_tag"), "cardData": card, "siblings": siblings})


def tree(handler: Handler, repo: str, revision: str, query: Mapping[str, list[str]]) -> None:
    """GET /api/models/{id}/tree/{rev}: every file, on one page."""
    found, commit = handler.hub.find(repo, revision)
    lfs = {name: {"lfs": {"oid": blob.sha256, "size": blob.size, "pointerSize": 134}} if is_lfs(name) else {}
           for name, blob in found.commits[commit].items()}
    handler.send_json([{"type": "file", "path": name, "size": blob.size, "oid": blob.git_sha1, **lfs[name]}
                       for name, blob in found.commits[commit].items()])


def resolve(handler: Handler, repo: str, revision: str, name: str) -> None:
    """HEAD or GET /{id}/resolve/{rev}/{path}; large files are redirected, their digest is on the redirect itself."""
    found, commit = handler.hub.find(repo, revision)
    if found.gated:
        raise Refused(403, "GatedRepo", f"Access to model {repo} is restricted.")
    blob = found.commits[commit].get(name)
    if blob is None:
        refused = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found", "X-Repo-Commit": commit}
        return handler.send_json({"error": "Entry not found"}, status=404, headers=refused)
    if is_lfs(name):
        return handler.send_head(302, {
            "Location": f"{handler.hub.lfs_url}/lfs/{blob.sha256}", "X-Repo-Commit": commit, "Content-Length": "0",
            "X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": str(blob.size), "ETag": f'"{blob.git_sha1}"'})
    handler.send_blob(blob, {"X-Repo-Commit": commit, "ETag": f'"{blob.git_sha1}"'})


def large_file(handler: Handler, sha256: str) -> None:
    """GET /lfs/{sha256} on the other origin, which no token may reach."""
    if handler.headers.get("Authorization"):
        raise Refused(400, None, "a token was sent to another origin")
    blob = handler.hub.blobs.get(sha256)
    if blob is None:
        raise Refused(404, None, "no such object")
    handler.send_blob(blob, {"ETag": f'"{sha256}"'})


REPO, REVISION = r"(?P<repo>[\w.-]+/[\w.-]+)", r"(?P<revision>[^/]+)"
ROUTES: list[tuple[tuple[str, ...], str, Callable[..., None]]] = [
    (("GET",), rf"/api/models/{REPO}", model_info),
    (("GET",), rf"/api/models/{REPO}/revision/{REVISION}", model_info),
    (("GET",), rf"/api/models/{REPO}/tree/{REVISION}/?", tree),
    (("GET", "HEAD"), rf"/{REPO}/resolve/{REVISION}/(?P<name>.+)", resolve),
    (("GET", "HEAD"), r"/lfs/(?P<sha256>[0-9a-f]{64})", large_file),
]
"""Methods, path, function; the writing side is to be added here."""

"""A Hugging Face Hub in memory: the HTTP protocol that the real clients speak, without the Hub.

    with HubServer() as hub:
        hub.add("timm/resnet18.a1_in1k", {"config.json": b"{}", "model.safetensors":
        Path("big.safetensors")}) subprocess.run([...], env=hub.env(tmp_path)) assert ("GET",
        "/api/models/timm/resnet18.a1_in1k") in hub.requests

The writing side is in hub_writing.py. A Space's key in `hub.repos` is `spaces/user/name`. Endpoints
and headers as huggingface_hub 2.4 reads them (`hf_api.py`, `file_download.py`, `utils/_http.py`).
Large files (LFS) are redirected to another origin, as on the real Hub, and a token that arrives
there is refused.

Faults: `fail` (a status for a path), `say` (a body for a path), `cut` (a download that breaks),
`fault` (one request breaks, by its number), `dropping` (every request breaks whose path contains
it).
"""

import hashlib
import io
import json
import os
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from tests.one_certificate import one_certificate

LFS_SUFFIXES = (".safetensors", ".bin", ".pth", ".onnx")
CHUNK = 1 << 20
TOKEN = "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"
"""A token that must turn up nowhere."""


@dataclass
class Blob:
    """The bytes of one version of a file: in memory, or a path that is streamed."""

    content: bytes | Path
    sha256: str
    git_sha1: str
    size: int
    damaged: bool = False
    """Serve it with one bit of the middle byte flipped; digest and size are announced as if nothing
    had happened."""

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes `start` to `stop` (exclusive), a megabyte at a time."""
        file: BinaryIO = (
            self.content.open("rb") if isinstance(self.content, Path) else io.BytesIO(self.content)
        )
        with file:
            file.seek(start)
            while start < stop and (chunk := file.read(min(CHUNK, stop - start))):
                middle = self.size // 2 - start
                if self.damaged and 0 <= middle < len(chunk):
                    chunk = chunk[:middle] + bytes([chunk[middle] ^ 1]) + chunk[middle + 1 :]
                yield chunk
                start += len(chunk)


@dataclass
class Repo:
    """One model repository: commits are full listings, branches point at them."""

    gated: bool = False
    private: bool = False
    objects: set[str] = field(default_factory=set)
    """sha256 of the large files that were uploaded to it."""
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    parents: dict[str, str | None] = field(default_factory=dict)

    def commit(
        self,
        files: dict[str, Blob],
        branch: str = "main",
        *,
        title: str = "Upload files",
        parent: str | None = None,
    ) -> str:
        """Make `files` the new state of a branch, on top of its newest commit or of `parent`; the
        commit's id."""
        listing = "".join(f"{name} {blob.sha256}\n" for name, blob in sorted(files.items()))
        sha = hashlib.sha1(f"{len(self.commits)} {listing}".encode()).hexdigest()
        self.parents[sha], self.titles[sha] = parent or self.refs.get(branch), title
        self.commits[sha], self.refs[branch] = files, sha
        return sha

    def history(self, commit: str) -> list[str]:
        """A commit and those before it, the newest first."""
        older = self.parents[commit]
        return [commit, *(self.history(older) if older else ())]

    def card(self, commit: str) -> dict[str, Any]:
        """The front matter of README.md."""
        readme = self.commits[commit].get("README.md")
        text = b"".join(readme.chunks(0, readme.size)).decode() if readme else ""
        match = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
        return yaml.safe_load(match[1]) if match else {}


class Refused(Exception):
    """Becomes an error response: status and the Hub's X-Error-Code (None for a plain failure)."""

    def __init__(
        self, status: int, code: str | None, message: str, headers: Mapping[str, str] | None = None
    ):
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers or {}


@dataclass
class Fault:
    """One request that goes wrong."""

    number: int
    """Of the request, counted from 0 since the fault was set."""
    kind: str
    """`refused`: an error (501), nothing is done. `dropped`: the connection breaks in the middle of
    the request, nothing is done. `lost`: it is done, and the connection breaks before the
    answer."""
    happened: tuple[str, str] | None = None
    """The request that it hit."""


@dataclass
class User:
    """Whom a token belongs to."""

    name: str
    role: str = "write"
    orgs: tuple[str, ...] = ()


class HubServer:
    """Context manager: a Hub on 127.0.0.1 that answers until the block ends."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, Blob] = {}
        self.requests: list[tuple[str, str]] = []
        self.failing: dict[str, tuple[int, Mapping[str, str], int | None]] = {}
        self.saying: dict[str, tuple[int, bytes, Mapping[str, str]]] = {}
        self.credentials: list[str] = []
        """What the header Authorization held, of each request that had one."""
        self.cuts: dict[str, int] = {}
        self.fault: Fault | None = None
        self.dropping: str | None = None
        self.users: dict[str, User] = {}
        self.sent_from: list[int] = []
        """First byte of each answer with a large file."""
        self.uploads: list[tuple[str, str]] = []
        self.commits: list[tuple[str, list[str]]] = []
        self.largest: int | None = None
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Handler", (Handler,), {"hub": self})
        )
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.lfs_url = f"http://localhost:{self._server.server_port}"

    def __enter__(self) -> "HubServer":
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(self, repo_id: str, files: Mapping[str, bytes | Path], *, gated: bool = False) -> str:
        """Create a repository with these files, or make them the next commit of its main branch;
        the commit's id."""
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
        return self.blobs.setdefault(
            sha256.hexdigest(), Blob(content, sha256.hexdigest(), git.hexdigest(), size)
        )

    def corrupt(self, repo_id: str, filename: str, damaged: bool = True) -> None:
        """Flip one bit of what is served for the file on main, not of what is announced."""
        repo = self.repos[repo_id]
        repo.commits[repo.refs["main"]][filename].damaged = damaged

    def fail(
        self,
        path: str,
        status: int,
        *,
        times: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """From now on (or `times` times) answer requests whose path contains `path` with `status`.

        Unless `headers` say otherwise, a client is told to wait 0 seconds.
        """
        self.failing[path] = (status, {"Retry-After": "0"} if headers is None else headers, times)

    def say(self, path: str, body: bytes, status: int = 200, **headers: str) -> None:
        """From now on answer requests whose path contains `path` with this body, as it is."""
        self.saying[path] = (status, body, headers)

    def cut(self, path: str, after: int) -> None:
        """Break the next download whose path contains `path` after so many bytes."""
        self.cuts[path] = after

    def log_in(self, token: str, user: User) -> None:
        """Know a token; from the first one on, other tokens are refused, and private repositories
        are hidden."""
        self.users[token] = user

    def env(self, home: Path, url: str | None = None) -> dict[str, str]:
        """Environment of a client process that uses this Hub, and `home` instead of the user's
        caches."""
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
    """Environment for a client process: the Hub at `url`, caches and pins below `home`, no token of
    the user's."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HF_", "HUGGING", "ZOOTUNE_"))
    }
    return kept | {
        "HF_ENDPOINT": url,
        "HF_HOME": str(home / "hf"),
        "ZOOTUNE_HOME": str(home / "zootune"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "SSL_CERT_FILE": one_certificate(),
    }


class Handler(BaseHTTPRequestHandler):
    """Dispatches a request by ROUTES; `hub` is set on the class that HubServer makes."""

    hub: HubServer
    protocol_version = "HTTP/1.1"
    # head and body are two writes: the second would wait 40 ms for an acknowledgement
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.respond("GET")

    def do_HEAD(self) -> None:
        self.respond("HEAD")

    def do_POST(self) -> None:
        self.respond("POST")

    def do_PUT(self) -> None:
        self.respond("PUT")

    def respond(self, method: str) -> None:
        fault = self._fault(method)
        if fault == "dropped":
            self.rfile.read(int(self.headers.get("Content-Length") or 0) // 2)
            return self.break_connection()
        answer, self._body = self.wfile, self._read_body()
        if fault == "lost":
            self.wfile = io.BytesIO()  # type: ignore[assignment]
        url = urlsplit(self.path)
        try:
            if fault == "refused":
                raise Refused(501, None, "made to fail by the test")
            self._fail_if_told()
            for path, (status, content, headers) in self.hub.saying.items():
                if path in self.path:
                    self.send_head(status, {"Content-Length": str(len(content)), **headers})
                    answer.write(content)
                    return None
            for wanted, pattern, handle in ROUTES:
                if method in wanted and (match := re.fullmatch(pattern, url.path)):
                    parts = {
                        key: unquote(part)
                        for key, part in match.groupdict().items()
                        if part is not None
                    }
                    if kind := parts.pop("kind", None):
                        parts["repo"] = (
                            f"spaces/{parts['repo']}" if "space" in kind else parts["repo"]
                        )
                    return handle(
                        self,
                        **parts,
                        **({"query": parse_qs(url.query)} if "api" in pattern else {}),
                    )
            raise Refused(404, None, "no such endpoint in the test server")
        except Refused as refused:
            self.send_refusal(refused)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client went away, which is its right
        finally:
            self.wfile = answer
            if fault == "lost":
                self.break_connection()

    def _fault(self, method: str) -> str | None:
        with self.hub.lock:
            self.hub.requests.append((method, self.path))
            self.hub.credentials += filter(None, [self.headers.get("Authorization")])
            fault = self.hub.fault
            if self.hub.dropping and self.hub.dropping in self.path:
                return "dropped"
            if fault is None or fault.happened:
                return None
            fault.number -= 1
            if fault.number >= 0:
                return None
            fault.happened = (method, self.path)
            return fault.kind

    def _fail_if_told(self) -> None:
        for path, (status, headers, times) in self.hub.failing.items():
            if path in self.path and times != 0:
                self.hub.failing[path] = (status, headers, None if times is None else times - 1)
                raise Refused(status, None, "made to fail by the test", headers)

    def _read_body(self) -> bytes:
        if "chunked" not in (self.headers.get("Transfer-Encoding") or ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def break_connection(self) -> None:
        """Close it as a network does that fails: with a reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
        self.rfile, self.wfile = io.BytesIO(), io.BytesIO()  # type: ignore[assignment]

    def json_body(self) -> Any:
        return json.loads(self._body or b"{}")

    def user(self) -> User | None:
        """Whose token it is; None without one."""
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and self.hub.users and token not in self.hub.users:
            raise Refused(401, None, "Invalid credentials in Authorization header")
        return self.hub.users.get(token)

    def find(self, repo: str, revision: str) -> tuple[Repo, str]:
        """As `HubServer.find`; a private repository is found only by those who may see it."""
        found, commit = self.hub.find(repo, revision)
        if found.private and not may_write(self.user(), repo):
            raise Refused(404, "RepoNotFound", "Repository not found")
        return found, commit

    def send_refusal(self, refused: Refused) -> None:
        codes = {"X-Error-Code": refused.code, "X-Error-Message": refused.message}
        given = {key: value for key, value in codes.items() if value} | dict(refused.headers)
        self.send_json({"error": refused.message}, status=refused.status, headers=given)

    def send_json(
        self, value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
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
            start, stop = (
                int(match[1]),
                min(int(match[2]) + 1, blob.size) if match[2] else blob.size,
            )
            if start >= blob.size:
                return self.send_head(
                    416, {"Content-Range": f"bytes */{blob.size}", "Content-Length": "0"}
                )
            status, extra = 206, {"Content-Range": f"bytes {start}-{stop - 1}/{blob.size}"}
        sizes = {"Content-Length": str(stop - start), "Accept-Ranges": "bytes"}
        self.send_head(
            status, {"Content-Type": "application/octet-stream", **headers, **sizes, **extra}
        )
        if self.command != "HEAD":
            cut = next((path for path in self.hub.cuts if path in self.path), None)
            end = stop if cut is None else min(stop, start + self.hub.cuts.pop(cut))
            if "/lfs/" in self.path:
                self.hub.sent_from.append(start)
            for chunk in blob.chunks(start, end):
                self.wfile.write(chunk)
            if end < stop:
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_WR)
                self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the terminal: `hub.requests` is the log."""


def may_write(user: User | None, repo: str) -> bool:
    return user is not None and repo.removeprefix("spaces/").partition("/")[0] in (
        user.name,
        *user.orgs,
    )


def is_lfs(name: str) -> bool:
    return name.endswith(LFS_SUFFIXES)


def model_info(
    handler: Handler, repo: str, revision: str = "main", *, query: Mapping[str, list[str]]
) -> None:
    """GET /api/models/{id}[/revision/{rev}][?blobs=true]; a gated repository shows its listing, not
    its files."""
    found, commit = handler.find(repo, revision)
    siblings = []
    for name, blob in found.commits[commit].items():
        sibling: dict[str, Any] = {"rfilename": name}
        if "blobs" in query:
            sibling |= {"size": blob.size, "blobId": blob.git_sha1}
            sibling |= (
                {"lfs": {"sha256": blob.sha256, "size": blob.size, "pointerSize": 134}}
                if is_lfs(name)
                else {}
            )
        siblings.append(sibling)
    card = found.card(commit)
    name = repo.removeprefix("spaces/")
    handler.send_json(
        {
            "_id": commit[:24],
            "id": name,
            "modelId": name,
            "sha": commit,
            "private": found.private,
            "gated": "manual" if found.gated else False,
            "tags": card.get("tags", []),
            "downloads": 0,
            "likes": 0,
            "pipeline_tag": card.get("pipeline_tag"),
            "cardData": card,
            "siblings": siblings,
        }
    )


def tree(handler: Handler, repo: str, revision: str, query: Mapping[str, list[str]]) -> None:
    """GET /api/models/{id}/tree/{rev}: every file, on one page."""
    found, commit = handler.find(repo, revision)
    lfs = {
        name: {"lfs": {"oid": blob.sha256, "size": blob.size, "pointerSize": 134}}
        if is_lfs(name)
        else {}
        for name, blob in found.commits[commit].items()
    }
    handler.send_json(
        [
            {"type": "file", "path": name, "size": blob.size, "oid": blob.git_sha1, **lfs[name]}
            for name, blob in found.commits[commit].items()
        ]
    )


COMMITS_OF_A_PAGE = 3
"""The real Hub has 50."""


def commits(handler: Handler, repo: str, revision: str, query: Mapping[str, list[str]]) -> None:
    """GET /api/models/{id}/commits/{rev}?p=N: the history, the newest first, in pages that a Link
    header leads on from."""
    found, commit = handler.find(repo, revision)
    history, page = found.history(commit), int(query.get("p", ["0"])[0])
    start, stop = page * COMMITS_OF_A_PAGE, (page + 1) * COMMITS_OF_A_PAGE
    headers = {}
    if stop < len(history):
        address = f"{handler.hub.url}{urlsplit(handler.path).path}?p={page + 1}"
        headers["Link"] = f'<{address}>; rel="next"'
    rows = []
    for oid in history[start:stop]:
        authors = [{"user": repo.partition("/")[0], "avatar": "/avatars/1.svg"}]
        row = {"id": oid, "title": found.titles[oid], "message": "", "authors": authors}
        rows.append(row | {"date": "2026-11-29T12:00:00.000Z"})
    handler.send_json(rows, headers=headers)


def resolve(handler: Handler, repo: str, revision: str, name: str) -> None:
    """HEAD or GET /{id}/resolve/{rev}/{path}; large files are redirected, their digest is on the
    redirect itself."""
    found, commit = handler.find(repo, revision)
    if found.gated:
        raise Refused(403, "GatedRepo", f"Access to model {repo} is restricted.")
    blob = found.commits[commit].get(name)
    if blob is None:
        refused = {
            "X-Error-Code": "EntryNotFound",
            "X-Error-Message": "Entry not found",
            "X-Repo-Commit": commit,
        }
        return handler.send_json({"error": "Entry not found"}, status=404, headers=refused)
    if is_lfs(name):
        return handler.send_head(
            302,
            {
                "Location": f"{handler.hub.lfs_url}/lfs/{blob.sha256}",
                "X-Repo-Commit": commit,
                "Content-Length": "0",
                "X-Linked-Etag": f'"{blob.sha256}"',
                "X-Linked-Size": str(blob.size),
                "ETag": f'"{blob.git_sha1}"',
            },
        )
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
API = rf"/api/(?P<kind>models|spaces)/{REPO}"
ROUTES: list[tuple[tuple[str, ...], str, Callable[..., None]]] = [
    (("GET",), API, model_info),
    (("GET",), rf"{API}/revision/{REVISION}", model_info),
    (("GET",), rf"{API}/tree/{REVISION}/?", tree),
    (("GET",), rf"{API}/commits/{REVISION}", commits),
    (("GET", "HEAD"), rf"/(?P<kind>spaces/)?{REPO}/resolve/{REVISION}/(?P<name>.+)", resolve),
    (("GET", "HEAD"), r"/lfs/(?P<sha256>[0-9a-f]{64})", large_file),
]
"""Methods, path, function; hub_writing.py adds those that write."""

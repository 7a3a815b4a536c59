"""The writing side of the Hub in memory: who am I, create, preupload, large files, commit. Imported
for its routes.

    hub.log_in("hf_...", User("alice"))       from now on only that token may write, below alice/
    hub.uploads, hub.commits                  what arrived: (repository, sha256), (repository,
                                              names)
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from tests.hub_server import (
    API,
    REPO,
    REVISION,
    ROUTES,
    Handler,
    Refused,
    Repo,
    User,
    is_lfs,
    may_write,
)

GITATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"


def who(handler: Handler, query: Any) -> None:
    """GET /api/whoami-v2."""
    user = handler.user()
    if user is None:
        raise Refused(401, None, "Invalid username or password.")
    handler.send_json(
        {
            "type": "user",
            "name": user.name,
            "orgs": [{"name": name} for name in user.orgs],
            "auth": {
                "type": "access_token",
                "accessToken": {"displayName": "test", "role": user.role},
            },
        }
    )


def writer(handler: Handler, repo: str) -> User:
    """Whose token it is; refused unless it may write there."""
    user = handler.user()
    if not may_write(user, repo) or user is None or user.role == "read":
        raise Refused(403, None, "You don't have the rights to write there")
    return user


def create(handler: Handler, query: Any) -> None:
    """POST /api/repos/create."""
    asked = handler.json_body()
    user = handler.user()
    name = f"{asked.get('organization') or (user.name if user else '')}/{asked['name']}"
    key = f"spaces/{name}" if asked.get("type") == "space" else name
    writer(handler, key)
    if key in handler.hub.repos:
        url = f"{handler.hub.url}/{key}"
        return handler.send_json({"error": "You already created this repo", "url": url}, status=409)
    repo = handler.hub.repos[key] = Repo(private=asked.get("visibility") == "private")
    repo.commit({".gitattributes": handler.hub.store(GITATTRIBUTES)}, title="initial commit")
    handler.send_json({"url": f"{handler.hub.url}/{key}", "name": name, "id": "1"})


def branch(handler: Handler, repo: str, revision: str, query: Any) -> None:
    """POST /api/models/{id}/branch/{name}."""
    found, commit = handler.find(repo, handler.json_body().get("startingPoint", "main"))
    writer(handler, repo)
    if revision in found.refs:
        raise Refused(409, None, "Reference already exists")
    found.refs[revision] = commit
    handler.send_json({})


def validate_yaml(handler: Handler, query: Any) -> None:
    """POST /api/validate-yaml: whether the front matter is a mapping."""
    match = re.match(r"---\n(.*?)\n---", handler.json_body()["content"], re.DOTALL)
    try:
        good = isinstance(yaml.safe_load(match[1]) if match else None, dict)
    except yaml.YAMLError:
        good = False
    errors = [] if good else [{"message": "the front matter is not a mapping"}]
    handler.send_json({"errors": errors, "warnings": []}, status=400 if errors else 200)


def preupload(handler: Handler, repo: str, revision: str, query: Any) -> None:
    """POST /api/models/{id}/preupload/{rev}: how each file is to be sent, and the digest of the
    present one."""
    found, commit = handler.find(repo, revision)
    present = found.commits[commit]
    answer = []
    for file in handler.json_body()["files"]:
        name, large = file["path"], is_lfs(file["path"])
        row = {"path": name, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
        if name in present:
            row["oid"] = present[name].sha256 if large else present[name].git_sha1
        answer.append(row)
    handler.send_json({"files": answer})


def lfs_batch(handler: Handler, repo: str) -> None:
    """POST /{id}.git/info/lfs/objects/batch: where to send large files; nothing for those that are
    here."""
    writer(handler, repo)
    found, _ = handler.find(repo, "main")
    objects: list[dict[str, Any]] = []
    for asked in handler.json_body()["objects"]:
        oid, size = asked["oid"], asked["size"]
        row: dict[str, Any] = {"oid": oid, "size": size}
        if handler.hub.largest is not None and size > handler.hub.largest:
            row["error"] = {"code": 422, "message": f"file of {size} bytes is too large"}
        elif oid not in found.objects:
            row["actions"] = {
                "upload": {"href": f"{handler.hub.lfs_url}/upload/{repo}/{oid}", "header": {}},
                "verify": {"href": f"{handler.hub.url}/verify/{repo}/{oid}"},
            }
        objects.append(row)
    handler.send_json({"transfer": "basic", "objects": objects})


def upload(handler: Handler, repo: str, sha256: str) -> None:
    """PUT on the other origin, which no token may reach."""
    if handler.headers.get("Authorization"):
        raise Refused(400, None, "a token was sent to another origin")
    if hashlib.sha256(handler._body).hexdigest() != sha256:
        raise Refused(400, None, "other bytes than announced")
    handler.hub.store(handler._body)
    handler.hub.repos[repo].objects.add(sha256)
    handler.hub.uploads.append((repo, sha256))
    handler.send_json({})


def verify(handler: Handler, repo: str, sha256: str) -> None:
    """POST after an upload."""
    writer(handler, repo)
    found, _ = handler.find(repo, "main")
    if sha256 not in found.objects:
        raise Refused(404, None, "no such object")
    handler.send_json({})


def commit(handler: Handler, repo: str, revision: str, query: Mapping[str, list[str]]) -> None:
    """POST /api/models/{id}/commit/{rev}: one line of JSON an operation, all or nothing."""
    found, parent = handler.find(repo, revision)
    proposed = "create_pr" in query
    if not proposed:
        writer(handler, repo)
    files, title = dict(found.commits[parent]), ""
    lines = [json.loads(line) for line in handler._body.splitlines()]
    for key, value in ((line["key"], line["value"]) for line in lines):
        if key == "header":
            title = value["summary"]
        if key == "header" and value.get("parentCommit", parent) != parent:
            raise Refused(412, None, "A commit has happened since. Please refresh and try again.")
        if key == "file":
            files[value["path"]] = handler.hub.store(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            if value["oid"] not in found.objects:
                raise Refused(400, None, f"{value['path']}: the large file was not uploaded")
            files[value["path"]] = handler.hub.blobs[value["oid"]]
        elif key == "deletedFile" and files.pop(value["path"], None) is None:
            raise Refused(404, "EntryNotFound", "A file with this name doesn't exist")
    number = sum(name.startswith("refs/pr/") for name in found.refs) + 1
    branch = f"refs/pr/{number}" if proposed else revision
    oid = found.commit(files, branch, title=title, parent=parent)
    handler.hub.commits.append(
        (repo, [line["value"]["path"] for line in lines if line["key"] != "header"])
    )
    page = f"{handler.hub.url}/{repo}"
    handler.send_json(
        {"success": True, "commitOid": oid, "commitUrl": f"{page}/commit/{oid}"}
        | ({"pullRequestUrl": f"{page}/discussions/{number}"} if proposed else {})
    )


ROUTES += [
    (("GET",), r"/api/whoami-v2", who),
    (("POST",), r"/api/repos/create", create),
    (("POST",), r"/api/validate-yaml", validate_yaml),
    (("POST",), rf"{API}/branch/{REVISION}", branch),
    (("POST",), rf"{API}/preupload/{REVISION}", preupload),
    (("POST",), rf"{API}/commit/{REVISION}", commit),
    (("POST",), rf"/(?P<kind>spaces/)?{REPO}\.git/info/lfs/objects/batch", lfs_batch),
    (("PUT",), r"/upload/(?P<repo>(?:spaces/)?[\w.-]+/[\w.-]+)/(?P<sha256>[0-9a-f]{64})", upload),
    (("POST",), r"/verify/(?P<repo>(?:spaces/)?[\w.-]+/[\w.-]+)/(?P<sha256>[0-9a-f]{64})", verify),
]

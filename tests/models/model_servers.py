"""Real servers that misbehave on request: a web server, one that speaks the hub's protocol, a package index."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from filbert.core.jobs import finish as finish

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BLOCK = 1 << 16


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Origin:
    """A web server. Set its switches, then look at what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)  # more headers, by path
    refusals: dict[str, int] = field(default_factory=dict)  # a status for ever, by path
    failures: list[int] = field(default_factory=list)  # statuses for the next requests
    cuts: list[int] = field(default_factory=list)  # bytes after which the next bodies end
    stalls: list[int] = field(default_factory=list)  # bytes after which the next bodies wait for `release`
    ranges: bool = True
    etag: Callable[[bytes], str] = lambda body: f'"{sha256(body)[:16]}"'
    claims: int = 0  # added to Content-Length
    length: bool = True  # False: no Content-Length, the end is the end
    pause_s: float = 0.0  # between blocks of 64 KiB
    ranges_asked: list[str | None] = field(default_factory=list)
    authorizations: list[tuple[str, str | None]] = field(default_factory=list)
    served: int = 0  # bytes of bodies
    requests: int = 0
    port: int = 0
    release: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add(self, path: str, body: bytes) -> str:
        self.files[path] = body
        return self.url + path

    def answer(self, handler: BaseHTTPRequestHandler, head: bool) -> None:
        self.requests += 1
        path = unquote(urlsplit(handler.path).path)
        self.authorizations.append((path, handler.headers.get("Authorization")))
        asked = handler.headers.get("Range")
        if not head:
            self.ranges_asked.append(asked)
        if path in self.redirects:
            return self._start(
                handler, 302, {"Location": self.redirects[path], "Content-Length": "0", **self.headers.get(path, {})}
            )
        status = self.failures.pop(0) if self.failures and asked != "bytes=0-0" else self.refusals.get(path)
        if status or path not in self.files:
            return self._start(handler, status or 404, {"Content-Length": "0", **self.headers.get(path, {})})
        return self._send(handler, path, asked, head)

    def _send(self, handler: BaseHTTPRequestHandler, path: str, asked: str | None, head: bool) -> None:
        body = self.files[path]
        headers = {"ETag": self.etag(body)}
        start, end, status = 0, len(body), 200
        if asked and self.ranges and (match := re.fullmatch(r"bytes=(\d+)-(\d*)", asked)):
            start, end, status = int(match[1]), min(len(body), int(match[2] or len(body)) + 1), 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(body)}"
        if self.length:
            headers["Content-Length"] = str(end - start + self.claims)
        self._start(handler, status, {**headers, **self.headers.get(path, {})})
        if not head:
            self._body(handler, body[start:end], probing=asked == "bytes=0-0")

    def _body(self, handler: BaseHTTPRequestHandler, body: bytes, probing: bool) -> None:
        cut = self.cuts.pop(0) if self.cuts and not probing else len(body)
        stall = self.stalls.pop(0) if self.stalls and not probing else None
        whole, body = cut >= len(body) and stall is None and self.length and not self.claims, body[:cut]
        for at in range(0, len(body), BLOCK):
            if stall is not None and at >= stall:
                handler.wfile.flush()
                self.release.wait(30)
                break
            block = body[at : at + BLOCK]
            handler.wfile.write(block)
            self.served += len(block)
            time.sleep(self.pause_s)
        handler.close_connection = not whole

    @staticmethod
    def _start(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()


@contextmanager
def serving(origin: Any, certificate: Path | None = None) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(head=False)

        def do_HEAD(self) -> None:
            self._answer(head=True)

        def do_POST(self) -> None:
            origin.take(self, read_body(self))

        do_PUT = do_POST

        def _answer(self, head: bool) -> None:
            try:
                origin.answer(self, head)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    origin.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        origin.release.set()
        server.shutdown()
        server.server_close()


@dataclass
class HubServer(Origin):
    """Speaks the part of the hub's protocol that its client uses. Large files redirect to /cdn/, as they do there."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)  # of a set: datasets/owner/name, converted
    gated: set[str] = field(default_factory=set)
    licences: dict[str, str] = field(default_factory=dict)
    lies: dict[str, str] = field(default_factory=dict)  # sha256 told instead of the real one, by repository path
    downloads: dict[str, int] = field(default_factory=dict)
    answers: dict[str, bytes] = field(default_factory=dict)  # told of a repository instead of the truth
    packed: str = "identity"  # the encoding that `answers` are said to have
    listing: bytes | None = None  # told instead of the real list of repositories
    searches: list[dict[str, list[str]]] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler, head: bool) -> None:
        path = unquote(urlsplit(handler.path).path)
        if path == "/api/models" and path not in self.refusals:
            return self._search(handler, parse_qs(urlsplit(handler.path).query))
        if path.startswith("/api/models/"):
            return self._model(handler, path.removeprefix("/api/models/"))
        if path.startswith("/api/datasets/"):
            return self._model(handler, path.removeprefix("/api/"))
        match = re.fullmatch(r"/((?:datasets/)?[^/]+/[^/]+)/resolve/(refs/convert/parquet|[^/]+)/(.+)", path)
        if match and match[1] in self.gated and handler.headers.get("Authorization") != "Bearer right":
            self.requests += 1
            gated = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted", "Content-Length": "0"}
            return self._start(handler, 403, gated)
        if match and match[3] in self.repos.get(match[1], {}):
            body = self.repos[match[1]][match[3]]
            self.files[f"/cdn/{sha256(body)}"] = body
            self.redirects[path] = f"/cdn/{sha256(body)}"
            told = self.lies.get(match[3], sha256(body))
            self.headers[path] = {
                "X-Linked-ETag": f'"{told}"',
                "X-Linked-Size": str(len(body)),
                "X-Repo-Commit": COMMIT,
            }
        elif match:
            self.headers[path] = {"X-Error-Code": "EntryNotFound"}
        return super().answer(handler, head)

    def _search(self, handler: BaseHTTPRequestHandler, asked: dict[str, list[str]]) -> None:
        self.requests += 1
        self.searches.append(asked)
        if self.stalls:
            self.release.wait(30)
        wanted = asked.get("search", [""])[0].lower()
        found = [repo for repo in self.repos if all(word in repo.lower() for word in wanted.split())]
        found.sort(key=lambda repo: -self.downloads.get(repo, 0))
        told = [
            {
                "_id": "1",
                "id": repo,
                "modelId": repo,
                "downloads": self.downloads.get(repo, 0),
                "gated": "manual" if repo in self.gated else False,
                "tags": ["gguf", *([f"license:{self.licences[repo]}"] if repo in self.licences else [])],
                "siblings": [{"rfilename": path} for path in self.repos[repo]],
            }
            for repo in found[: int(asked["limit"][0])]
        ]
        page = json.dumps(told).encode() if self.listing is None else self.listing
        self._start(handler, 200, {"Content-Type": "application/json", "Content-Length": str(len(page))})
        handler.wfile.write(page)

    def _model(self, handler: BaseHTTPRequestHandler, rest: str) -> None:
        self.requests += 1
        repo = re.sub(r"/revision/.*", "", rest)
        if repo not in self.repos:
            return self._start(handler, 401, {"X-Error-Code": "RepoNotFound", "Content-Length": "0"})
        siblings = [
            {
                "rfilename": path,
                "size": len(body),
                "blobId": "0" * 40,
                "lfs": {"sha256": self.lies.get(path, sha256(body)), "size": len(body), "pointerSize": 130},
            }
            for path, body in self.repos[repo].items()
        ]
        card = {"cardData": {"license": self.licences[repo]}} if repo in self.licences else {}
        told = {"_id": "1", "id": repo, "modelId": repo, "sha": COMMIT, "tags": [], "siblings": siblings, **card}
        page = self.answers.get(repo, json.dumps(told).encode())
        headers = {"Content-Type": "application/json", "Content-Encoding": self.packed}
        self._start(handler, 200, {**headers, "Content-Length": str(len(page))})
        handler.wfile.write(page)
        return None


def read_body(handler: BaseHTTPRequestHandler) -> bytes:
    if handler.headers.get("Transfer-Encoding") != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
    body = b""
    while length := int(handler.rfile.readline(), 16):
        body += handler.rfile.read(length)
        handler.rfile.readline()
    handler.rfile.readline()
    return body


@dataclass
class UploadHub(HubServer):
    """Takes commits as the hub does: it is asked how each file is to come, large ones go to its LFS store, then comes
    the commit that names them. Who writes needs the token `right`."""

    objects: dict[str, bytes] = field(default_factory=dict)  # of the LFS store, by sha256
    private: set[str] = field(default_factory=set)
    commits: list[str] = field(default_factory=list)  # their summaries
    taken: list[str] = field(default_factory=list)  # paths that were written to
    broken: str = ""  # a path that is answered 500

    def take(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        path = unquote(urlsplit(handler.path).path)
        self.taken.append(path)
        if path.startswith("/lfs/"):
            assert sha256(body) == path.removeprefix("/lfs/")
            self.objects[sha256(body)] = body
            return self._told(handler, {})
        if path == self.broken:
            return self._told(handler, {"error": "down"}, 500)
        if handler.headers.get("Authorization") != "Bearer right":
            return self._told(handler, {"error": "Invalid username or password."}, 401)
        if path == "/api/validate-yaml":
            return self._told(handler, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self._create(handler, json.loads(body))
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
            return self._told(
                handler, {"files": [self._way(match[1], each["path"]) for each in json.loads(body)["files"]]}
            )
        if re.fullmatch(r"/[^/]+/[^/]+\.git/info/lfs/objects/batch", path):
            return self._told(handler, {"objects": [self._object(each) for each in json.loads(body)["objects"]]})
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path)
        assert match, path
        return self._commit(handler, match[1], [json.loads(line) for line in body.splitlines()])

    def _create(self, handler: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        repo = f"{asked['organization']}/{asked['name']}"
        if repo in self.repos:
            return self._told(
                handler, {"error": "You already created this model repo", "url": f"{self.url}/{repo}"}, 409
            )
        self.repos[repo] = {}
        if asked.get("private") or asked.get("visibility") == "private":
            self.private.add(repo)
        return self._told(handler, {"url": f"{self.url}/{repo}"})

    def _way(self, repo: str, path: str) -> dict[str, Any]:
        there = self.repos[repo].get(path)
        oid = sha256(there) if there is not None and path.endswith(".gguf") else None
        return {
            "path": path,
            "uploadMode": "lfs" if path.endswith(".gguf") else "regular",
            "shouldIgnore": False,
            "oid": oid,
        }

    def _object(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["oid"] in self.objects:
            return asked
        return {**asked, "actions": {"upload": {"href": f"{self.url}/lfs/{asked['oid']}"}}}

    def _commit(self, handler: BaseHTTPRequestHandler, repo: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.commits.append(value["summary"])
            elif line["key"] == "lfsFile":
                self.repos[repo][value["path"]] = self.objects[value["oid"]]
            else:
                assert line["key"] == "file"
                self.repos[repo][value["path"]] = base64.b64decode(value["content"])
        told = {"success": True, "commitOid": COMMIT, "commitUrl": f"{self.url}/{repo}/commit/{COMMIT}"}
        return self._told(handler, told)

    def _told(self, handler: BaseHTTPRequestHandler, told: dict[str, Any], status: int = 200) -> None:
        page = json.dumps(told).encode()
        self._start(handler, status, {"Content-Type": "application/json", "Content-Length": str(len(page))})
        handler.wfile.write(page)


def wheel_of(members: dict[str, bytes], project: str = "tiny_model", version: str = "1.0") -> bytes:
    """A wheel, of which pip reads the metadata."""
    info = f"{project}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {project.replace('_', '-')}\nVersion: {version}\nLicense: MIT\n"
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return made.getvalue()


@dataclass
class IndexServer(Origin):
    """A package index; `add_wheel` puts a wheel on it. It is the only index that pip knows in the test."""

    password: str = ""  # the Authorization header without which nothing is given

    def answer(self, handler: BaseHTTPRequestHandler, head: bool) -> None:
        if self.password and handler.headers.get("Authorization") != self.password:
            return self._start(handler, 401, {"WWW-Authenticate": "Basic", "Content-Length": "0"})
        return super().answer(handler, head)

    def add_wheel(self, wheel: bytes, file: str = "tiny_model-1.0-py3-none-any.whl") -> None:
        project = file.partition("-")[0].replace("_", "-")
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            metadata = next(archive.read(name) for name in archive.namelist() if name.endswith("/METADATA"))
        self.files |= {
            f"/files/{file}": wheel,
            f"/files/{file}.metadata": metadata,
        }  # as the public index has it: PEP 658
        known = f'data-dist-info-metadata="sha256={sha256(metadata)}"'
        link = f'<a href="/files/{file}#sha256={sha256(wheel)}" {known}>{file}</a>'
        page = self.files.get(f"/simple/{project}/", b"<!DOCTYPE html><html><body>")
        self.files[f"/simple/{project}/"] = page + link.encode()
        self.headers[f"/simple/{project}/"] = {"Content-Type": "text/html"}


@contextmanager
def dripping(begins: bytes) -> Iterator[str]:
    """The address of a server whose answers begin so, and go on for ever at a byte a tenth of a second."""
    listener = socket.create_server(("127.0.0.1", 0))

    def drip(client: socket.socket) -> None:
        with client, suppress(OSError):
            client.recv(BLOCK)
            client.sendall(begins)
            while not client.sendall(b" "):
                time.sleep(0.1)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=drip, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


PULLER = """
import sys
from filbert.core.jobs import run
from filbert.models import store
def watch(event):
    print(event.step, int(event.done), flush=True)
print("pulled", run("pull", {}, store.pull(sys.argv[1]), watch).sha256, flush=True)
"""


@contextmanager
def pulling(name: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A real process that pulls; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", PULLER, name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(condition: Callable[[], bool], wait_s: float = 20) -> None:
    end = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)

"""Server: the Hub's protocol over the store: one method for each request that the client makes."""

from __future__ import annotations

import json
import re
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import repeat
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from loopback import answers
from loopback.faults import Fault, Faults
from loopback.store import Blob, HttpError, Repository, Store, User


@dataclass(frozen=True)
class Seen:
    """A request that arrived: its method, its path without the query, who sent it, and how many bytes went back."""

    method: str
    path: str
    token: str
    range: str
    host: str
    sent: int
    status: int

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class LoopbackHub:
    """A Hub that listens on this machine while it is used as a context."""

    def __init__(self, store: Store | None = None) -> None:
        self.store = store or Store()
        self.faults = Faults()
        self.seen: list[Seen] = []
        self.redirects = True
        self.verifies = False
        #: Where the storage says that files are uploaded and verified, by action, in place of its own addresses.
        self.addresses: dict[str, str] = {}
        self.largest = 5_000_000_000
        self.xet = False
        self.page = 100
        self.circles = False
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hub = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def storage(self) -> str:
        """Where files of LFS lie: another host's name, as on the real Hub, so that a token must not travel."""
        return f"http://localhost:{self.port}/storage"

    def fault(self, kind: str, where: str = "", **options: Any) -> Fault:
        """Switch a fault on."""
        return self.faults.add(Fault(kind, where, **options))

    def requests(self) -> list[str]:
        """What was asked, as `METHOD /path`, redirections to the storage left out."""
        return [str(one) for one in self.seen if not one.path.startswith("/storage/")]

    def __enter__(self) -> LoopbackHub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.faults.clear()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: LoopbackHub

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


ROUTES: list[tuple[str, re.Pattern[str], str]] = []
_REPO = r"/api/(?P<kind>models|datasets|spaces)/(?P<id>[^/]+/[^/]+)"
_FILES = r"/(?:(?P<kind>datasets|spaces)/)?(?P<id>[^/]+/[^/]+)"


def route(method: str, pattern: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Answer such requests by the decorated method, the pattern's groups as its arguments."""

    def kept(function: Callable[..., Any]) -> Callable[..., Any]:
        ROUTES.append((method, re.compile(pattern), function.__name__))
        return function

    return kept


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # without it every answer is two packets, and the second waits 40 ms
    disable_nagle_algorithm = True
    server: _Server

    # --- the way of a request ----------------------------------------------------------------------------------

    def _handle(self) -> None:
        self._status = 0
        parts = urlsplit(self.path)
        self.query = parse_qs(parts.query)
        self.fault = self.hub.faults.take(f"{self.command} {unquote(parts.path)}")
        if self.fault and self.fault.kind == "deaf":
            self.fault.over.wait(self.fault.seconds)
        self.body = self._read_body()
        try:
            if self.fault and self._fails(self.fault):
                return
            self._dispatch(parts.path)
        except HttpError as error:
            headers = {"X-Error-Code": error.code} if error.code else {}
            self._json({"error": error.message}, error.status, {**headers, "X-Error-Message": error.message})
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with suppress(OSError):
                self.wfile.flush()
            if not self._status:
                self._note(0, 0)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815

    def _dispatch(self, path: str) -> None:
        wanted = "GET" if self.command == "HEAD" else self.command
        for method, pattern, name in ROUTES:
            if method == wanted and (match := pattern.fullmatch(path)):
                groups = {key: unquote(value) if value else value for key, value in match.groupdict().items()}
                getattr(self, name)(**groups)
                return
        raise HttpError(404, "Sorry, we can't find the page you are looking for.")

    def _fails(self, fault: Fault) -> bool:
        if fault.kind == "status":
            self._json({"error": "a fault"}, fault.status, fault.headers)
        elif fault.kind in ("close", "deaf"):
            self.close_connection = True
        elif fault.kind in ("endless", "bomb", "drip"):
            self._pour(fault)
        elif fault.kind == "slow":
            fault.over.wait(fault.seconds)
            return False
        elif fault.kind == "meet":
            with suppress(threading.BrokenBarrierError):
                fault.pair.wait()
                return False
            self._json({"error": "nobody else came"}, 500)
        else:
            return False
        return True

    def _pour(self, fault: Fault) -> None:
        """An answer without end, until the client hangs up or the fault is over."""
        self._note(200, 0)
        self.close_connection = True
        if fault.kind == "drip" and not fault.status:
            pieces = iter(b"HTTP/1.1 200 OK\r\nX-Drip: " + b"x" * 60_000)
        else:
            self.send_response(200)
            self.send_header("X-Repo-Commit", "a" * 40)
            if fault.kind == "bomb":
                self.send_header("Content-Encoding", fault.headers.get("Content-Encoding", "gzip"))
            if fault.kind == "drip":
                self.send_header("Content-Length", "1000000")
            self.end_headers()
            pieces = repeat(ord("x"))
        bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
        while not fault.over.is_set():
            if fault.kind == "drip":
                piece = bytes([next(pieces)])
                fault.over.wait(fault.seconds)
            elif fault.kind == "bomb":
                piece = bomb.compress(bytes(1_000_000)) + bomb.flush(zlib.Z_SYNC_FLUSH)
            else:
                piece = b"x" * 64_000
            self.wfile.write(piece)
            self.wfile.flush()
            fault.sent += 1_000_000 if fault.kind == "bomb" else len(piece)

    @property
    def hub(self) -> LoopbackHub:
        return self.server.hub

    @property
    def store(self) -> Store:
        return self.server.hub.store

    def log_message(self, *_: object) -> None:
        """Tests read `seen`."""

    def _read_body(self) -> bytes:
        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            return b"".join(self._chunks())
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def _user(self) -> User | None:
        token = self._token()
        if token and token not in self.store.users:
            raise HttpError(401, "Invalid credentials in Authorization header")
        return self.store.users.get(token)

    def _writer(self, namespace: str) -> User:
        user = self._user()
        if user is None:
            raise HttpError(401, "Invalid username or password.")
        if user.role != "write" or not user.owns(namespace):
            raise HttpError(403, "You don't have the rights to write here")
        return user

    def _visible(self, kind: str | None, id: str) -> Repository:
        return self.store.visible(kind or "models", id, self._user())

    # --- answers -----------------------------------------------------------------------------------------------

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._bytes(json.dumps(value).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _bytes(self, data: bytes, status: int, headers: dict[str, str], length: int | None = None) -> None:
        if self.fault and self.fault.kind == "wrong" and data:
            data = bytes(byte ^ 0x55 for byte in data)
        cut = bool(self.fault and self.fault.kind == "cut")
        if self.fault and self.fault.kind == "lost":
            self._note(status, 0)
            self.close_connection = True
            return
        body = b"" if self.command == "HEAD" else data[: len(data) // 2] if cut else data
        self._note(status, len(body))  # before the answer is out: who has it may look at once
        self.send_response(status)
        for name, value in {"X-Request-Id": "loopback", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.close_connection |= cut
        self.wfile.write(body)

    def _note(self, status: int, sent: int) -> None:
        self._status = status
        host = (self.headers.get("Host") or "").partition(":")[0]
        said, path = self.headers.get("Range") or "", unquote(urlsplit(self.path).path)
        self.hub.seen.append(Seen(self.command, path, self._token(), said, host, sent, status))

    def _file(self, data: bytes, headers: dict[str, str]) -> None:
        """A file or the range of it that was asked for."""
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", **headers}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted is None:
            self._bytes(data, 200, headers, len(data))
            return
        start, stop = int(wanted[1]), min(int(wanted[2] or len(data) - 1), len(data) - 1)
        if start > stop:
            self._bytes(b"", 416, {**headers, "Content-Range": f"bytes */{len(data)}"})
            return
        self._bytes(data[start : stop + 1], 206, {**headers, "Content-Range": f"bytes {start}-{stop}/{len(data)}"})

    # --- who, create -------------------------------------------------------------------------------------------

    @route("GET", "/api/whoami-v2")
    def whoami(self) -> None:
        user = self._user()
        if user is None:
            raise HttpError(401, "Invalid username or password.")
        self._json(answers.whoami(user))

    @route("POST", "/api/repos/create")
    def create(self) -> None:
        asked = json.loads(self.body)
        user = self._user()
        namespace = asked.get("organization") or (user.name if user else "")
        self._writer(namespace)
        kind, id = f"{asked.get('type') or 'model'}s", f"{namespace}/{asked['name']}"
        url = f"{self.hub.endpoint}/{'' if kind == 'models' else kind + '/'}{id}"
        private = bool(asked.get("private")) or asked.get("visibility") == "private"
        try:
            self.store.create(kind, id, private=private)
        except HttpError as error:
            self._json({"url": url, "error": error.message}, 409)
            return
        self._json({"url": url, "name": id})

    @route("DELETE", "/api/repos/delete")
    def delete(self) -> None:
        raise HttpError(403, "Nothing is deleted here")

    @route("POST", "/api/validate-yaml")
    def validate(self) -> None:
        self._json({"errors": [], "warnings": []})

    # --- look --------------------------------------------------------------------------------------------------

    @route("GET", "/api/(?P<kind>models|datasets|spaces)")
    def list(self, kind: str) -> None:
        user = self._user()
        shown = [one for one in self.store.listed(kind) if not one.private or (user and user.owns(one.namespace))]
        found = answers.matching(shown, self.query)
        first = int(self.query.get("cursor", ["0"])[0])
        limit = min(int(self.query.get("limit", [str(self.hub.page)])[0]), self.hub.page)
        rows = [answers.info(one, one.commit("main"), "full" in self.query) for one in found[first : first + limit]]
        headers = {}
        if first + limit < len(found):
            rest = "&".join(f"{name}={quote(v)}" for name, vs in self.query.items() for v in vs if name != "cursor")
            headers["Link"] = f'<{self.hub.endpoint}/api/{kind}?{rest}&cursor={first + limit}>; rel="next"'
        if self.hub.circles:
            headers["Link"] = f'<{self.hub.endpoint}{self.path}>; rel="next"'
        self._json(rows, 200, headers)

    @route("GET", _REPO + "(?:/revision/(?P<revision>[^/]+))?")
    def info(self, kind: str, id: str, revision: str | None) -> None:
        found = self._visible(kind, id)
        self._json(answers.info(found, found.commit(revision or "main"), True, "blobs" in self.query))

    @route("GET", _REPO + "/refs")
    def refs(self, kind: str, id: str) -> None:
        self._json(answers.refs(self._visible(kind, id)))

    @route("GET", _REPO + "/commits/(?P<revision>[^/]+)")
    def commits(self, kind: str, id: str, revision: str) -> None:
        self._json(answers.history(self._visible(kind, id), revision))

    @route("POST", _REPO + "/tag/(?P<revision>[^/]+)")
    def tag(self, kind: str, id: str, revision: str) -> None:
        found = self._visible(kind, id)
        self._writer(found.namespace)
        name = json.loads(self.body)["tag"]
        if name in found.tags:
            raise HttpError(409, "Tag already exists")
        found.tags[name] = found.commit(revision).oid
        self._json({})

    @route("POST", _REPO + "/branch/(?P<branch>.+)")
    def branch(self, kind: str, id: str, branch: str) -> None:
        found = self._visible(kind, id)
        self._writer(found.namespace)
        start = json.loads(self.body or b"{}").get("startingPoint") or "main"
        if branch in found.branches:
            raise HttpError(409, "Reference already exists")
        found.branches[branch] = found.commit(start).oid
        self._json({})

    @route("GET", _REPO + "/tree/(?P<revision>[^/]+)(?:/(?P<below>.+))?")
    def tree(self, kind: str, id: str, revision: str, below: str | None) -> None:
        found = self.store.readable(kind, id, self._user())
        recursive = self.query.get("recursive", ["false"])[0].lower() == "true"
        self._json(answers.tree(found.commit(revision).files, below or "", recursive))

    @route("POST", _REPO + "/paths-info/(?P<revision>[^/]+)")
    def paths_info(self, kind: str, id: str, revision: str) -> None:
        files = self.store.readable(kind, id, self._user()).commit(revision).files
        if "json" in (self.headers.get("Content-Type") or ""):
            wanted = json.loads(self.body)["paths"]
        else:
            wanted = parse_qs(self.body.decode()).get("paths", [])
        everything = {entry["path"]: entry for entry in answers.tree(files, "", True)}
        self._json([everything[path] for path in wanted if path in everything])

    # --- download ----------------------------------------------------------------------------------------------

    @route("GET", _FILES + "/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
    def resolve(self, kind: str | None, id: str, revision: str, path: str) -> None:
        commit = self.store.readable(kind or "models", id, self._user()).commit(revision)
        if path not in commit.files:
            headers = {
                "X-Error-Code": "EntryNotFound",
                "X-Error-Message": "Entry not found",
                "X-Repo-Commit": commit.oid,
            }
            self._bytes(b"Entry not found", 404, headers)
            return
        blob = commit.files[path]
        headers = {"X-Repo-Commit": commit.oid}
        if blob.lfs:
            headers |= {"X-Linked-Etag": f'"{blob.etag}"', "X-Linked-Size": str(len(blob.data))}
            if (
                self.hub.xet
            ):  # what the Hub says of files in its own storage; asked for a token to it, this one has none
                token = f"{self.hub.endpoint}/api/{kind or 'models'}/{id}/xet-read-token/{commit.oid}"
                headers |= {"X-Xet-Hash": blob.sha256, "Link": f'<{token}>; rel="xet-auth"'}
        if blob.lfs and self.hub.redirects:
            where = f"{self.hub.storage}/{commit.oid}/{quote(kind or 'models')}/{quote(id)}/{quote(path)}"
            self._bytes(b"", 302, {**headers, "Location": where})
            return
        self._file(blob.data, {**headers, "ETag": f'"{blob.etag}"'})

    @route("GET", "/storage/(?P<oid>[0-9a-f]{40})/(?P<kind>[^/]+)/(?P<id>[^/]+/[^/]+)/(?P<path>.+)")
    def stored(self, oid: str, kind: str, id: str, path: str) -> None:
        blob = self.store.repository(kind, id).commit(oid).files[path]
        self._file(blob.data, {"ETag": f'"{blob.etag}"'})

    # --- upload ------------------------------------------------------------------------------------------------

    @route("POST", _REPO + "/preupload/(?P<revision>[^/]+)")
    def preupload(self, kind: str, id: str, revision: str) -> None:
        found = self._visible(kind, id)
        self._writer(found.namespace)
        self._json({"files": answers.upload_modes(json.loads(self.body)["files"], found.commit(revision).files)})

    @route("POST", _FILES + r"\.git/info/lfs/objects/batch")
    def lfs_batch(self, kind: str | None, id: str) -> None:
        found = self._visible(kind, id)
        self._writer(found.namespace)
        objects = []
        for one in json.loads(self.body)["objects"]:
            href = f"{self.hub.endpoint}/uploads/{one['oid']}"
            others = {action: address.format(oid=one["oid"]) for action, address in self.hub.addresses.items()}
            actions = {"upload": {"href": others.get("upload", href), "header": {}}}
            if self.hub.verifies or "verify" in others:
                actions["verify"] = {"href": others.get("verify", f"{href}/verify"), "header": {}}
            if one["size"] > self.hub.largest:
                objects.append({**one, "error": {"code": 422, "message": "the file is too large"}})
            else:
                objects.append({**one} if one["oid"] in self.store.uploads else {**one, "actions": actions})
        self._json({"transfer": "basic", "objects": objects})

    @route("PUT", "/uploads/(?P<oid>[0-9a-f]{64})")
    def upload(self, oid: str) -> None:
        if Blob(self.body, True).sha256 != oid:
            raise HttpError(400, "The content does not have this hash")
        self.store.uploads[oid] = self.body
        self._json({})

    @route("POST", "/uploads/(?P<oid>[0-9a-f]{64})/verify")
    def verify(self, oid: str) -> None:
        if len(self.store.uploads.get(oid, b"")) != json.loads(self.body)["size"]:
            raise HttpError(422, "The file has not arrived")
        self._json({})

    @route("POST", _REPO + "/commit/(?P<revision>[^/]+)")
    def commit(self, kind: str, id: str, revision: str) -> None:
        found = self._visible(kind, id)
        user = self._writer(found.namespace)
        header, changed, deleted = answers.parse_commit(self.body, self.store.uploads)
        made = self.store.commit(
            found, revision, header["summary"], changed, deleted, user.name, header.get("parentCommit")
        )
        url = f"{self.hub.endpoint}/{'' if kind == 'models' else kind + '/'}{id}/commit/{made.oid}"
        self._json({"success": True, "commitOid": made.oid, "commitUrl": url, "hookOutput": ""})

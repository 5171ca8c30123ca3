"""The data plane: /v2 of a registry, served by threads on a loopback port of its own.

MiniStack's server takes every body as a whole; this one hands a layer on while it comes in. What it answers is what ECR
answers, as clients print it, see `helpers.rehearsal.ecr.refusals`.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from helpers.rehearsal.cloud import ACCOUNT
from helpers.rehearsal.ecr.connection import Answered, Connection, ConnectionCut
from helpers.rehearsal.ecr.manifests import LARGEST, OCI_INDEX
from helpers.rehearsal.ecr.refusals import Refused
from helpers.rehearsal.ecr.registry import Registry, Upload
from helpers.rehearsal.servers import HOST

NAME = r"(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
POLL_S = 0.1
PAGE = 1000


class DataPlane:
    """The server, which runs from its making until `close`."""

    def __init__(self, registry: Registry) -> None:
        handler = type("Handler", (Handler,), {"registry": registry})
        self._server = _Server((HOST, 0), handler)
        registry.endpoint = f"http://{HOST}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": POLL_S}, name="ecr", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nothing to write down."""
        if not isinstance(sys.exc_info()[1], (OSError, ConnectionCut)):
            super().handle_error(request, client_address)


class Handler(Connection):
    """What is asked of a registry, and its answers."""

    registry: Registry

    # Where a request goes

    def route(self) -> None:
        """Answer a request to /v2, or for a layer by its signed address."""
        address = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(address.query, keep_blank_values=True).items()}
        path = address.path
        if path.startswith("/layers/"):
            self._send_layer(path.removeprefix("/layers/"))
            return
        if path != "/v2" and not path.startswith("/v2/"):
            self.answer(404, b"404 page not found\n", {"Content-Type": "text/plain; charset=utf-8"})
            return
        if not self._authorized():
            return
        if path in ("/v2", "/v2/"):
            self.answer(200, b"", {"Content-Type": "text/plain; charset=utf-8"})
            return
        for pattern, methods in ROUTES:
            if found := pattern.fullmatch(path):
                work = methods.get(self.command)
                if work is None:
                    self.refuse(405, "UNSUPPORTED", "The operation is unsupported.")
                    return
                work(self, **found.groupdict())
                return
        self.answer(404, b"404 page not found\n", {"Content-Type": "text/plain; charset=utf-8"})

    def _authorized(self) -> bool:
        worth = self.registry.tokens.check(self.headers.get("Authorization", ""))
        if worth == "good":
            return True
        if worth == "expired":
            self.refuse(403, "DENIED", "Your authorization token has expired. Reauthenticate and try again.")
        elif worth == "unknown":
            self.refuse(400, "DENIED", "Your Authorization Token is invalid.")
        else:
            realm = f'Basic realm="{self.registry.endpoint}/",service="ecr.amazonaws.com"'
            self.answer(401, b"Not Authorized\n", {"WWW-Authenticate": realm, "Content-Type": "text/plain; charset=utf-8"})
        return False

    # Layers

    def start_layer(self, name: str) -> None:
        """POST blobs/uploads/: mount a layer, or begin one."""
        self._meet("InitiateLayerUpload", name)
        self.registry.find(name)
        digest, source = self.query.get("mount", ""), self.query.get("from", "")
        if digest and source and source in self.registry.repositories:
            self._meet("GetDownloadUrlForLayer", source)
            if self.registry.mount(name, digest, source):
                self.answer(201, b"", self._at_layer(name, digest))
                return
        upload = self.registry.start_upload(name)
        self.answer(202, b"", self._at_upload(upload))

    def take_piece(self, name: str, upload: str) -> None:
        """PATCH: take a piece of a layer. ECR answers 201 where the specification has 202.

        The Range of the answer stays at the end of the first piece however many follow, so whoever goes on from there is
        refused. Source: https://github.com/aws/containers-roadmap/issues/2831
        """
        self._meet("UploadLayerPart", name)
        coming = self.registry.upload(name, upload)
        self._take(coming)
        coming.first_end = coming.first_end or coming.incoming.size
        self.answer(201, b"", self._at_upload(coming))

    def end_layer(self, name: str, upload: str) -> None:
        """PUT: take the rest of a layer, and check it against its digest."""
        self._meet("CompleteLayerUpload", name)
        coming = self.registry.upload(name, upload)
        if not DIGEST.fullmatch(self.query.get("digest", "")):
            self.refuse(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
            return
        self._take(coming)
        with coming.lock:
            digest, _ = self.registry.finish_upload(coming, [self.query["digest"]])
        self.answer(201, b"", self._at_layer(name, digest))

    def layer_progress(self, name: str, upload: str) -> None:
        """GET of an upload: how much of it has come, by the end of its first piece."""
        coming = self.registry.upload(name, upload)
        self.answer(204, b"", self._at_upload(coming))

    def layer(self, name: str, digest: str) -> None:
        """HEAD says how large a layer is; GET leads to where its bytes are."""
        head = self.command == "HEAD"
        self._meet("BatchCheckLayerAvailability" if head else "GetDownloadUrlForLayer", name)
        size = self.registry.find(name).layers.get(digest)
        if size is None:
            self.refuse(404, "BLOB_UNKNOWN", f"The layer with digest '{digest}' does not exist in the repository with name '{name}' in the registry with id '{ACCOUNT}'")
        elif head:
            self.answer(200, None, {"Content-Type": "application/octet-stream", "Content-Length": str(size), "Docker-Content-Digest": digest})
        elif digest in self.registry.blobs.hollow:
            self.refuse(404, "BLOB_UNKNOWN", "This layer was made up for the rehearsal: its size is known, it has no bytes.")
        else:
            self.answer(307, b"", {"Location": self.registry.links.make(self.registry.endpoint, digest), "Docker-Content-Digest": digest})

    def _send_layer(self, digest: str) -> None:
        """Send the bytes of a layer, or a range of them, as S3 does."""
        if self.command not in ("GET", "HEAD") or not self.registry.links.good(digest, self.query.get("X-Amz-Signature", "")):
            self.answer(403, b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>", {"Content-Type": "application/xml"})
            return
        try:
            file = self.registry.blobs.path(digest).open("rb")
        except FileNotFoundError:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>", {"Content-Type": "application/xml"})
            return
        with file:
            size = os.fstat(file.fileno()).st_size
            first, last = _range(self.headers.get("Range", ""), size)
            if first > last and size:
                self.answer(416, b"", {"Content-Range": f"bytes */{size}"})
                return
            headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", "Content-Length": str(last + 1 - first)}
            part = (first, last) != (0, size - 1) and size > 0
            self.answer(206 if part else 200, None, {**headers, "Content-Range": f"bytes {first}-{last}/{size}"} if part else headers)
            if self.command == "GET" and last >= first:
                self.connection.sendfile(file, first, last + 1 - first)

    def _take(self, coming: Upload) -> None:
        """Take a body into an upload; what a connection that breaks has brought is forgotten."""
        with coming.lock:
            start = self._start_of_piece()
            if start not in (None, coming.incoming.size):
                self._refuse_range(coming)
            coming.incoming.mark()
            pieces = self.pieces()
            try:
                for piece in pieces:
                    before = coming.incoming.size
                    coming.incoming.write(piece)
                    if self.registry.faults.cuts(before, coming.incoming.size):
                        raise ConnectionCut
                    self.registry.received(coming.repository, len(piece))
            except (OSError, ConnectionCut, EOFError) as broken:
                coming.incoming.back()
                raise ConnectionCut from broken
            except Refused:
                self.discard(pieces)
                self.registry.find(coming.repository)  # whose absence says more
                raise

    def _start_of_piece(self) -> int | None:
        found = re.match(r"(?:bytes )?(\d+)-\d+", self.headers.get("Content-Range", ""))
        return int(found[1]) if found else None

    def _refuse_range(self, coming: Upload) -> None:
        told = "The requested range does not follow what the upload has."
        self.refuse(416, "BLOB_UPLOAD_INVALID", told, {"Range": f"0-{max(coming.first_end - 1, 0)}"})
        raise Answered

    # Manifests

    def put_manifest(self, name: str, reference: str) -> None:
        """PUT manifests/: an image, by tag or by digest."""
        self._meet("PutImage", name)
        self.registry.find(name)
        content = self.body(LARGEST)
        named = {"digest": reference} if DIGEST.fullmatch(reference) else {"tag": reference}
        image, _ = self.registry.put_image(name, content, self.headers.get("Content-Type", ""), **named)
        headers = {"Location": f"{self.registry.endpoint}/v2/{name}/manifests/{image.digest}", "Docker-Content-Digest": image.digest}
        if image.manifest.subject:
            headers["OCI-Subject"] = image.manifest.subject.digest
        self.answer(201, b"", headers)

    def manifest(self, name: str, reference: str) -> None:
        """HEAD or GET manifests/: an image, byte for byte; GET is a pull, and counts as one."""
        self._meet("BatchGetImage", name)
        named = {"digest": reference} if DIGEST.fullmatch(reference) else {"tag": reference}
        try:
            image = self.registry.find_image(name, **named)
        except Refused as refused:
            if refused.code != "ImageNotFoundException":
                raise
            self.refuse(404, "MANIFEST_UNKNOWN", "Requested image not found")
            return
        if image.status != "ACTIVE":
            self.refuse(404, "MANIFEST_UNKNOWN", f"The image with digest '{image.digest}' is archived: restore it before it is pulled.")
            return
        if self.command == "GET":
            image.pulled_at = time.time()
        content = image.manifest.content
        headers = {"Content-Type": image.manifest.media_type, "Docker-Content-Digest": image.digest, "Content-Length": str(len(content))}
        self.answer(200, content if self.command == "GET" else None, headers)

    def delete_manifest(self, name: str, reference: str) -> None:
        """DELETE manifests/: an image by its digest, or a tag alone.

        Source: https://github.com/aws/containers-roadmap/issues/1229
        """
        self._meet("BatchDeleteImage", name)
        with self.registry.lock:
            repository = self.registry.find(name)
            if not DIGEST.fullmatch(reference):
                image = self.registry.find_image(name, tag=reference)
                repository.untag(reference)
                if not image.tags and not self.registry.listed_in(repository, image.digest):
                    self.registry.delete_image(repository, image)
            else:
                image = self.registry.find_image(name, digest=reference)
                if lists := self.registry.listed_in(repository, image.digest):
                    self.refuse(400, "DENIED", f"Requested image referenced by manifest list: [{', '.join(lists)}]")
                    return
                self.registry.delete_image(repository, image)
        self.answer(202, b"", {})

    def tags(self, name: str) -> None:
        """GET tags/list, a page of it."""
        self._meet("ListImages", name)
        with self.registry.lock:
            names = sorted(tag for image in self.registry.find(name).images.values() for tag in image.tags)
        self._page(names, {"name": name}, "tags", f"/v2/{name}/tags/list")

    def catalog(self) -> None:
        """GET _catalog, a page of it."""
        self._meet("DescribeRepositories", "")
        self._page(sorted(self.registry.repositories), {}, "repositories", "/v2/_catalog")

    def _page(self, names: list[str], head: dict[str, Any], kind: str, path: str) -> None:
        most = int(self.query["n"]) if self.query.get("n", "").isdigit() else PAGE
        rest = [name for name in names if name > self.query.get("last", "")]
        shown = rest[:most]
        more = {"Link": f'<{path}?n={most}&last={quote(shown[-1])}>; rel="next"'} if shown and len(rest) > most else {}
        self.answer(200, json.dumps({**head, kind: shown}).encode(), {"Content-Type": "application/json", **more})

    def referrers(self, name: str, digest: str) -> None:
        """GET referrers/: an index of what refers to an image.

        Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-referrers
        """
        self._meet("BatchGetImage", name)
        wanted = self.query.get("artifactType", "")
        found = [one.manifest for one in self.registry.referrers(name, digest) if not wanted or one.manifest.artifact_type == wanted]
        described = [
            {
                "mediaType": one.media_type,
                "digest": one.digest,
                "size": len(one.content),
                **({"artifactType": one.artifact_type} if one.artifact_type else {}),
                **({"annotations": one.annotations} if one.annotations else {}),
            }
            for one in found
        ]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": described}
        filtered = {"OCI-Filters-Applied": "artifactType"} if wanted else {}
        self.answer(200, json.dumps(index).encode(), {"Content-Type": OCI_INDEX, **filtered})

    def _meet(self, action: str, repository: str) -> None:
        self.registry.faults.meet(action, repository)

    def _at_upload(self, upload: Upload) -> dict[str, str]:
        location = f"{self.registry.endpoint}/v2/{upload.repository}/blobs/uploads/{upload.id}"
        return {"Location": location, "Docker-Upload-UUID": upload.id, "Range": f"0-{max(upload.first_end - 1, 0)}"}

    def _at_layer(self, name: str, digest: str) -> dict[str, str]:
        return {"Location": f"{self.registry.endpoint}/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest}


def _range(header: str, size: int) -> tuple[int, int]:
    """Return the first and last byte that a Range header asks for; all of them where it asks for none, or for several ranges."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", header)
    if not found or not (found[1] or found[2]):
        return 0, size - 1
    if not found[1]:
        return max(size - int(found[2]), 0), size - 1
    return int(found[1]), min(int(found[2] or size - 1), size - 1)


ROUTES = [
    (re.compile(r"/v2/_catalog"), {"GET": Handler.catalog}),
    (re.compile(rf"/v2/{NAME}/tags/list"), {"GET": Handler.tags}),
    (re.compile(rf"/v2/{NAME}/referrers/(?P<digest>{DIGEST.pattern})"), {"GET": Handler.referrers}),
    (re.compile(rf"/v2/{NAME}/blobs/uploads/?"), {"POST": Handler.start_layer}),
    (re.compile(rf"/v2/{NAME}/blobs/uploads/(?P<upload>[0-9a-f-]+)"), {"PATCH": Handler.take_piece, "PUT": Handler.end_layer, "GET": Handler.layer_progress}),
    (re.compile(rf"/v2/{NAME}/blobs/(?P<digest>{DIGEST.pattern})"), {"GET": Handler.layer, "HEAD": Handler.layer}),
    (
        re.compile(rf"/v2/{NAME}/manifests/(?P<reference>[^/]+)"),
        {"GET": Handler.manifest, "HEAD": Handler.manifest, "PUT": Handler.put_manifest, "DELETE": Handler.delete_manifest},
    ),
]

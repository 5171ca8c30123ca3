"""Send the layers of an image: several at once, checked by the registry, mounted where another repository has them.

A layer of up to 72 MiB is sent whole, in one PATCH that a PUT completes, as Docker does it: the raw bytes, and least work. Where
the connection breaks ECR is not trusted to have kept any of it, and it goes on in parts, by the API. A larger layer goes in parts from
the start: a break costs one of 5 MiB at most, half of that on average, so that two of them cost 7 % of 72 MiB and less of more. Parts
for all would cost every push a third more bytes (base64), and the processor five times as much. Nobody can pull a layer before a
manifest names it.

ECR hashes what comes in and refuses a layer whose digest is another one, so a layer is not hashed here as well, which would be half of
the work of a push. Only where one is refused it is read again, to tell a file that changed from bytes that changed on their way:
InvalidLayerException, https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CompleteLayerUpload.html
"""

from __future__ import annotations

import contextlib
import http.client
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from helpers.aws.waiting import SHOWN_AFTER, tqdm
from helpers.ecr.content import Blob, blame, changed
from helpers.ecr.parts import MIB, Api, send_in_parts
from helpers.ecr.wire import CUT, Registry

AT_ONCE = 4
WHOLE = 72 * MIB  # see above
PIECE = 256 * 1024
SENT, IN_PARTS, MOUNTED, THERE = "sent whole", "sent in parts", "mounted", "there already"


@dataclass(frozen=True)
class Sent:
    """What became of a layer: how, the bytes sent (those sent again included), how often the connection broke, seconds, request id."""

    digest: str
    how: str
    size: int
    sent: int = 0
    cuts: int = 0
    seconds: float = 0.0
    request_id: str = ""


@dataclass(frozen=True)
class Wanted:
    """A layer to be sent, and the repository to mount it from where one has it; `there` where it has come meanwhile."""

    blob: Blob
    source: str = ""
    there: bool = False


class Stopped(Exception):
    """Another layer failed, so this one is not sent on."""


def send_layers(registry: Registry, api: Api, wanted: Sequence[Wanted], on_done: Callable[[Sent], None] = lambda _: None) -> list[Sent]:
    """Send layers at once, with a bar for all; returns what became of them, in their order.

    `on_done` is told of each one that is there, in the calling thread. The first failure ends the others and is raised, a `RunbookError`.
    """
    stop = threading.Event()
    failed: list[BaseException] = []
    with _bar(sum(one.blob.size for one in wanted)) as count, ThreadPoolExecutor(min(AT_ONCE, len(wanted)) or 1) as pool:

        def on_bytes(size: int) -> None:
            if stop.is_set():
                raise Stopped
            count(size)

        # Large ones first: the last to end should be a small one.
        order = sorted(range(len(wanted)), key=lambda number: -wanted[number].blob.size)
        futures: dict[int, Future[Sent]] = {number: pool.submit(send_layer, registry, api, wanted[number], on_bytes) for number in order}
        try:
            done, _ = wait_for(futures.values(), return_when=FIRST_EXCEPTION)
            failed = [error for future in done if (error := future.exception())]
        finally:
            if failed or not all(future.done() for future in futures.values()):
                stop.set()
                pool.shutdown(cancel_futures=True)
    for number in sorted(futures):
        future = futures[number]
        if not future.cancelled() and not future.exception():
            on_done(future.result())
    if failed:
        raise next((error for error in failed if not isinstance(error, Stopped)), failed[0])
    return [futures[number].result() for number in range(len(wanted))]


def send_layer(registry: Registry, api: Api, wanted: Wanted, on_bytes: Callable[[int], None] = lambda _: None) -> Sent:
    """Send one layer, or mount it. Raises `RunbookError` where it is refused or is not what its digest says."""
    blob, started = wanted.blob, time.perf_counter()
    on_bytes(0)
    if wanted.there:
        return Sent(blob.digest, THERE, blob.size)
    upload = ""
    if wanted.source:
        begun = registry.request("POST", f"{registry.path}/blobs/uploads/?mount={blob.digest}&from={quote(wanted.source, safe='/')}", expect=(201, 202))
        if begun.status == 201:
            return Sent(blob.digest, MOUNTED, blob.size, seconds=time.perf_counter() - started)
        upload = begun.headers.get("location", "")
    if blob.size > WHOLE:
        done = send_in_parts(api, blob, "", on_bytes)
        return Sent(blob.digest, IN_PARTS, blob.size, done.sent, done.cuts, time.perf_counter() - started, done.request_id)
    upload = upload or registry.request("POST", f"{registry.path}/blobs/uploads/", expect=(202,)).headers["location"]
    whole = _Whole(registry, blob, upload, on_bytes)
    try:
        request_id = whole.run()
    except CUT:
        on_bytes(-whole.sent)
        rest = send_in_parts(api, blob, whole.identity, on_bytes)
        return Sent(blob.digest, IN_PARTS, blob.size, whole.sent + rest.sent, 1 + rest.cuts, time.perf_counter() - started, rest.request_id)
    return Sent(blob.digest, SENT, blob.size, whole.sent, 0, time.perf_counter() - started, request_id)


class _Whole:
    """A layer in one PATCH, and the PUT that completes it where its digest is right; `sent` counts the bytes that left."""

    def __init__(self, registry: Registry, blob: Blob, location: str, on_bytes: Callable[[int], None]) -> None:
        self.registry, self.blob, self.on_bytes = registry, blob, on_bytes
        parts = urlsplit(location)
        self.path, self.query = parts.path, parts.query
        self.identity = parts.path.rpartition("/")[2]
        self.sent = 0

    def run(self) -> str:
        """Send and complete it; returns the request id. Raises one of `CUT` where the connection breaks, else `RunbookError`."""
        where = f"{self.path}?{self.query}" if self.query else self.path
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(self.blob.size)}
        answer = self.registry.once("PATCH", where, headers=headers, send=self._send)
        if answer.status not in (201, 202):
            raise self.registry.refused("PATCH", answer)
        place = urlsplit(answer.headers.get("location", where))
        joined = "&".join(filter(None, [place.query, f"digest={quote(self.blob.digest)}"]))
        done = self.registry.request("PUT", f"{place.path}?{joined}", expect=(201, 400, 404))
        if done.status == 400:
            raise blame(self.blob, self.registry.refused("PUT", done))
        # Sent again because its answer was lost, it is told that there is no such upload any more.
        if done.status == 404 and self.registry.request("HEAD", f"{self.registry.path}/blobs/{self.blob.digest}", expect=(200, 404)).status == 404:
            raise self.registry.refused("PUT", done)
        return done.headers.get("x-amzn-requestid", "")

    def _send(self, connection: http.client.HTTPConnection) -> None:
        left, buffer = self.blob.size, memoryview(bytearray(min(PIECE, max(self.blob.size, 1))))
        self.sent = 0
        with self.blob.open() as file:
            while left:
                count = file.readinto(buffer[: min(len(buffer), left)])  # type: ignore[attr-defined]
                if not count:
                    raise changed(self.blob, "it has become shorter")
                connection.send(buffer[:count])
                left -= count
                self.sent += count
                self.on_bytes(count)


@contextlib.contextmanager
def _bar(size: int) -> Iterator[Callable[[int], None]]:
    """One bar for all layers: a bar each is more than a page of text in a report. What takes half a second needs none."""
    with tqdm(total=size, unit="B", unit_scale=True, desc="Layers", leave=False, delay=SHOWN_AFTER, mininterval=SHOWN_AFTER, file=sys.stdout) as bar:
        yield lambda sent: bar.update(sent)

"""ECR in the local cloud: one call puts it in MiniStack, and gives what orders faults and seeds images."""

from __future__ import annotations

import asyncio
import functools
import re
import shutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from helpers.rehearsal.ecr import image_operations, layer_operations, lifecycle_operations, public, repository_operations, scan_operations, scanning, seeding
from helpers.rehearsal.ecr.api import Api
from helpers.rehearsal.ecr.registry import Registry
from helpers.rehearsal.ecr.server import DataPlane
from helpers.rehearsal.stricter import Answer, Handler

Receive = Callable[[], Awaitable[Any]]
DIRECTORY = "ecr"
OPERATIONS = {
    **image_operations.OPERATIONS,
    **layer_operations.OPERATIONS,
    **lifecycle_operations.OPERATIONS,
    **repository_operations.OPERATIONS,
    **scan_operations.OPERATIONS,
}


def install(handlers: dict[str, Handler], directory: Path) -> Ecr:
    """Put ECR and ECR Public in MiniStack, and serve /v2 on a port of its own; returns what a rehearsal orders from."""
    from ministack.core import router

    ecr = Ecr(directory)
    handlers["ecr"] = _handler(Api("ecr", ecr.registry, OPERATIONS))
    handlers["ecr-public"] = _handler(Api("ecr-public", ecr.public, public.OPERATIONS))
    # By the service's name in a request's signature, and by its target.
    router.SERVICE_PATTERNS["ecr-public"] = {"target_prefixes": [public.TARGET], "host_patterns": [r"ecr-public\."]}
    return ecr


def _handler(api: Api) -> Handler:
    async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Answer:
        return await asyncio.to_thread(api.answer, headers.get("x-amz-target", ""), body)

    return handle


class Ecr:
    """The registry of a cloud, and what is ordered of it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / DIRECTORY
        shutil.rmtree(self._directory, ignore_errors=True)
        self.registry, self.public = Registry(self._directory), public.PublicRegistry()
        self._plane = DataPlane(self.registry)
        self.registry.on_push.append(functools.partial(scanning.on_push, self.registry))

    def order(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Do what a control request orders, and return how things stand. Raises ValueError for what is no order.

        token_lifetime_s: of tokens from now on; expire_tokens: all that were given out; scan_s: how long a scan takes;
        seed: repositories with images (see `seeding`); expire_images: {"repository", "now"}, apply its lifecycle policy;
        remove: a repository that is gone from now on; everything else is a fault, see `faults`.
        """
        orders, done = dict(asked), {}
        registry = self.registry
        if "token_lifetime_s" in orders:
            registry.tokens.lifetime_s = float(orders.pop("token_lifetime_s"))
        if orders.pop("expire_tokens", False):
            registry.tokens.expire()
        if "scan_s" in orders:
            registry.scan_s = float(orders.pop("scan_s"))
        if "seed" in orders:
            done["seeded"] = seeding.seed(registry, orders.pop("seed"))
        if "expire_images" in orders:
            done["actions"] = lifecycle_operations.apply(registry, **orders.pop("expire_images"))
        if name := orders.pop("remove", ""):
            if name not in registry.repositories:
                raise ValueError(f"There is no repository {name!r}.")
            registry.remove(name)
        registry.faults.order(orders)
        return {"endpoint": registry.endpoint, "token_lifetime_s": registry.tokens.lifetime_s, "scan_s": registry.scan_s, "faults": registry.faults.ordered, **done}

    def misdirected(self, path: str) -> bool:
        """Return whether a request to the cloud's own endpoint is one for the registry, which MiniStack would answer from its own state."""
        from ministack.app import _is_ecr_registry_path

        return _is_ecr_registry_path(path)

    def cutting(self, scope: dict[str, Any], receive: Receive) -> Receive:
        """Return what receives a request's body: that of UploadLayerPart breaks off where a cut was ordered."""
        headers = dict(scope.get("headers") or ())
        if not headers.get(b"x-amz-target", b"").endswith(b".UploadLayerPart") or not self.registry.faults.ordered.get("cut"):
            return receive
        start, count = None, 0

        async def counted() -> Any:
            nonlocal start, count
            message = await receive()
            content = message.get("body", b"")
            # Where the upload is named after the bytes it is too late to know what it has; they are then counted from this part's first.
            start = self._received(content) if start is None else start
            before, count = count, count + len(content)
            # The bytes of a layer are base64 in JSON.
            if self.registry.faults.cuts(start + before * 3 // 4, start + count * 3 // 4):
                _abort(scope["client"])
                raise ConnectionResetError("The connection was ordered to break here.")
            return message

        return counted

    def _received(self, content: bytes) -> int:
        """Return how much has come of the upload that the beginning of a request names."""
        named = re.search(rb'"uploadId": ?"([0-9a-f-]+)"', content)
        identity = named[1].decode() if named else ""
        with self.registry.lock:
            return next((one.uploads[identity].incoming.size for one in self.registry.repositories.values() if identity in one.uploads), 0)

    def close(self) -> None:
        """Serve no more, and delete the layers."""
        self._plane.close()
        shutil.rmtree(self._directory, ignore_errors=True)


def _abort(client: tuple[str, int]) -> None:
    """Break the connection of a client of this process's event loop, as a network does."""
    loop = asyncio.get_running_loop()
    for transport in list(loop._transports.values()):  # type: ignore[attr-defined]
        if transport.get_extra_info("peername") == client:
            transport.abort()

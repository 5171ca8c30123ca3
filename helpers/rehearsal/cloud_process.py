"""The process of a local cloud: MiniStack served on the loopback, with our ElastiCache, EventBridge and ECR in it."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from helpers.rehearsal.cloud import ACCOUNT, BUNDLE_FILE, FACTS_FILE, MAX_HOURS, REGION, TOKEN_HEADER
from helpers.rehearsal.ecr import service as ecr
from helpers.rehearsal.efs import service as efs
from helpers.rehearsal.elasticache import metrics as cache_metrics
from helpers.rehearsal.elasticache import failover
from helpers.rehearsal.elasticache.api import Fault
from helpers.rehearsal.eventbridge import service as events
from helpers.rehearsal.eventbridge.amplify import Amplify
from helpers.rehearsal.servers import HOST, write_private

App = Callable[[dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]
# Where the process keeps what belongs to one life of the cloud.
STATE_DIRECTORY = "elasticache"
WATCH_S = 1.0
# What the user may have set for a MiniStack of their own.
MINISTACK_OWN = ("AUTH", "EDGE_PORT", "LOCALSTACK_PERSISTENCE", "S3_PERSIST", "SERVICES", "USE_SSL")


def main() -> None:
    """Serve a cloud in the directory of the first argument, with the options (JSON) of the second."""
    directory, options = Path(sys.argv[1]), json.loads(sys.argv[2])
    os.umask(0o077)
    listener = _listen(options.get("port", 0))
    port = listener.getsockname()[1]
    _prepare_ministack(port)
    asyncio.run(_serve(directory, listener, options))


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((HOST, port))
    listener.listen(256)
    listener.set_inheritable(False)
    return listener


def _prepare_ministack(port: int) -> None:
    """Set what MiniStack reads from its environment when it is imported."""
    for name in MINISTACK_OWN:
        os.environ.pop(name, None)
    os.environ.update(
        GATEWAY_PORT=str(port),
        MINISTACK_ACCOUNT_ID=ACCOUNT,
        MINISTACK_REGION=REGION,
        BIND_HOST=HOST,
        LOG_LEVEL="WARNING",
        # Listeners on fixed ports that no runbook needs, and a container engine that it must not look for.
        SFTP_ENABLED="0",
        IOT_MTLS_ENABLED="0",
        DOCKER_HOST="unix:///nonexistent/docker.sock",
        PERSIST_STATE="0",
    )


async def _serve(directory: Path, listener: socket.socket, options: dict[str, Any]) -> None:
    import ministack.app
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    from helpers.rehearsal import hosted_zones, pricing, stricter
    from helpers.rehearsal.elasticache.service import Service

    hosted_zones.let_ids_be_chosen()
    logging.getLogger("botocore").setLevel(logging.WARNING)
    endpoint = f"http://{HOST}:{listener.getsockname()[1]}"
    state = directory / STATE_DIRECTORY
    shutil.rmtree(state, ignore_errors=True)
    service = Service(state, endpoint, REGION, ACCOUNT)
    service.nodes.refuse_client_pause = bool(options.get("refuse_client_pause"))
    service.certificates.write_bundle(directory / BUNDLE_FILE)
    ministack.app.SERVICE_HANDLERS["elasticache"] = service.handle
    stricter.install(ministack.app.SERVICE_HANDLERS)
    pricing.install(ministack.app.SERVICE_HANDLERS)
    amplify = events.install(ministack.app.SERVICE_HANDLERS)
    file_systems = efs.install(ministack.app.SERVICE_HANDLERS, directory)
    images = ecr.install(ministack.app.SERVICE_HANDLERS, directory)
    facts = {
        "endpoint": endpoint,
        "pid": os.getpid(),
        "region": REGION,
        "account": ACCOUNT,
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "token": secrets.token_hex(16),
    }
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    hours = float(options.get("max_hours", MAX_HOURS))
    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 1
    config.loglevel = "WARNING"
    config.accesslog = None
    control = Control(ministack.app.app, service, amplify, file_systems, images, facts, stopping)
    asyncio.get_running_loop().run_in_executor(None, service.storage.client, "s3")
    watch = asyncio.create_task(_watch(directory, facts, hours, service, stopping))
    deployments = asyncio.create_task(amplify.deploy_by_itself())
    try:
        await serve(control, config, shutdown_trigger=stopping.wait)  # type: ignore[arg-type]
    finally:
        watch.cancel()
        deployments.cancel()
        await asyncio.to_thread(file_systems.close)
        await asyncio.to_thread(images.close)
        await asyncio.to_thread(service.close)
        shutil.rmtree(state, ignore_errors=True)
        _withdraw(directory, facts)
        # MiniStack's own threads are not asked whether they have finished.
        os._exit(0)


async def _watch(
    directory: Path, facts: dict[str, Any], max_hours: float, service: Any, stopping: asyncio.Event
) -> None:
    """Publish where the cloud is, and end it when its time is over or its directory or relay is gone."""
    write_private(directory / FACTS_FILE, json.dumps(facts, indent=2) + "\n")
    deadline = time.time() + max_hours * 3600
    while time.time() < deadline and directory.exists() and service.relay.alive:
        await asyncio.sleep(WATCH_S)
    stopping.set()


def _withdraw(directory: Path, facts: dict[str, Any]) -> None:
    """Remove the facts file and the certificates, unless a later cloud has written its own."""
    with contextlib.suppress(OSError, ValueError):
        if json.loads((directory / FACTS_FILE).read_text())["token"] == facts["token"]:
            (directory / FACTS_FILE).unlink()
            (directory / BUNDLE_FILE).unlink()


class Control:
    """MiniStack's application, with a few control requests of our own before it."""

    def __init__(
        self, inner: App, service: Any, amplify: Amplify, file_systems: efs.Efs, images: ecr.Ecr, facts: dict[str, Any], stopping: asyncio.Event
    ) -> None:
        self._inner = inner
        self._service = service
        self._amplify = amplify
        self._file_systems = file_systems
        self._images = images
        self._facts = facts
        self._stopping = stopping

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/_rehearsal/"):
            await self._control(scope, receive, send)
        elif scope["type"] == "http" and self._images.misdirected(scope["path"]):
            told = f"The registry of this cloud is at {self._images.registry.endpoint}, the proxyEndpoint of GetAuthorizationToken."
            await _reply(send, 421, {"errors": [{"code": "UNSUPPORTED", "message": told}]})
        else:
            await self._inner(scope, self._images.cutting(scope, receive), send)

    async def _control(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        token = dict(scope["headers"]).get(TOKEN_HEADER.encode(), b"").decode()
        body = await _body(receive)
        if not hmac.compare_digest(token, self._facts["token"]):
            await _reply(send, 403, {"error": "The token is not the one in cloud.json."})
            return
        match scope["path"].removeprefix("/_rehearsal/"):
            case "status":
                await _reply(send, 200, self._status())
            case "settings":
                changes = json.loads(body or b"{}")
                if "fail_next" in changes:
                    try:
                        with self._service.lock:
                            self._service.faults.order(changes["fail_next"])
                    except ValueError as error:
                        await _reply(send, 400, {"error": str(error)})
                        return
                if "refuse_client_pause" in changes:
                    refuse = bool(changes["refuse_client_pause"])
                    await asyncio.to_thread(self._service.refuse_client_pause, refuse)
                if "deploy_every_s" in changes:
                    self._amplify.every_s = float(changes["deploy_every_s"])
                await _reply(send, 200, self._settings())
            case "emit":
                try:
                    await _reply(send, 200, {"emitted": events.emit(json.loads(body))})
                except (ValueError, TypeError, KeyError) as error:
                    await _reply(send, 400, {"error": f"These are no events: {error}"})
            case "file-systems":
                await _reply(send, 200, await asyncio.to_thread(self._file_systems.seed, json.loads(body)))
            case "cache-metrics":
                await asyncio.to_thread(cache_metrics.store, json.loads(body))
                await _reply(send, 200, {"stored": True})
            case "registry":
                try:
                    await _reply(send, 200, await asyncio.to_thread(self._images.order, json.loads(body)))
                except (ValueError, TypeError, KeyError, IndexError) as error:
                    await _reply(send, 400, {"error": f"The registry cannot do that: {error}"})
            case "fail":
                node = str(json.loads(body)["node"])
                try:
                    pid = await asyncio.to_thread(failover.fail, self._service, node)
                    await _reply(send, 200, {"node": node, "pid": pid})
                except Fault as error:
                    await _reply(send, 404, {"error": error.message})
            case "stop":
                await _reply(send, 200, {"stopping": True})
                self._stopping.set()
            case other:
                await _reply(send, 404, {"error": f"There is no control request {other!r}."})

    def _settings(self) -> dict[str, Any]:
        return {
            "refuse_client_pause": self._service.nodes.refuse_client_pause,
            "fail_next": self._service.faults.ordered,
            "deploy_every_s": self._amplify.every_s,
        }

    def _status(self) -> dict[str, Any]:
        with self._service.lock:
            groups = {group.id: _shown(group) for group in self._service.groups.values()}
            clusters = {cluster.id: _shown(cluster) for cluster in self._service.clusters.values()}
        public = {name: value for name, value in self._facts.items() if name != "token"}
        return {
            **public,
            "settings": self._settings(),
            "relay_pid": self._service.relay.pid,
            "groups": groups,
            "clusters": clusters,
        }


def _shown(group: Any) -> dict[str, Any]:
    """Return what the status says of a replication group, or of a cache cluster outside one."""
    endpoint = f"{group.primary_host}:{group.primary_port}"
    if group.alone:
        endpoint = next((f"{front.host}:{front.port}" for front in group.fronts.values()), "")
    return {
        "status": group.status,
        "endpoint": endpoint,
        "nodes": {
            node.cluster_id: {
                "engine": str(node.engine),
                "role": "primary" if node.is_primary else "replica",
                "port": node.server.port,
                "pid": node.server.pid,
            }
            for node in group.nodes
        },
    }


async def _body(receive: Any) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _reply(send: Any, status: int, content: dict[str, Any]) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(content).encode()})


if __name__ == "__main__":
    main()

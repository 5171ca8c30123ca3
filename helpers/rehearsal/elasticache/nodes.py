"""Run the nodes of replication groups: one real server each, restricted as ElastiCache restricts it."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from helpers.rehearsal.elasticache import access, parameters
from helpers.rehearsal.elasticache.logins import Logins
from helpers.rehearsal.engines import Engine
from helpers.rehearsal.servers import Server
from helpers.rehearsal.wire import Refused, WireError

SYNC_TIMEOUT_S = 120.0
# A large backup takes its time to load.
LOAD_TIMEOUT_S = 600.0
POLL_S = 0.005
CUT_TIMES = 10
NODE_ID = "0001"
# The node group of a group without cluster mode, and the first of one with it.
NODE_GROUP_ID = "0001"


class NodeFailed(RuntimeError):
    """A node that did not do what the service asked of it; the sentence goes into an event."""


@dataclass(frozen=True)
class Settings:
    """What a node runs with."""

    engine: Engine
    node_type: str
    values: Mapping[str, str] = field(default_factory=dict)
    logins: Logins = field(default_factory=Logins, compare=False)

    @property
    def memory_limit(self) -> int:
        """Return the bytes that the node gives to data."""
        return parameters.memory_limit(self.node_type, self.values)

    def directives(self) -> dict[str, str]:
        """Return the server's configuration, as CONFIG SET takes it."""
        return parameters.directives(self.engine, self.node_type, self.values)


@dataclass
class Node:
    """One member cluster of a replication group, with the server that now serves it."""

    cluster_id: str
    zone: str
    settings: Settings
    server: Server
    is_primary: bool = False
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    shard: str = NODE_GROUP_ID
    # Host and port of the relay that lead here; None where clients reach the server itself.
    address: tuple[str, int] | None = None
    # What the nodes of a cluster call it among themselves.
    bus_id: str = ""

    @property
    def known_at(self) -> tuple[str, int]:
        """Return the host and port that the node is known by: in descriptions, and among the nodes of a cluster."""
        return self.address or self.server.address

    @property
    def engine(self) -> Engine:
        """Return the engine that the node runs."""
        return self.settings.engine

    @property
    def endpoint(self) -> dict[str, Any]:
        """Return the address of the node itself."""
        host, port = self.known_at
        return {"Address": host, "Port": port}

    def info(self, section: str) -> dict[str, str]:
        """Return one section of INFO."""
        lines = self.command("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def offset(self) -> int:
        """Return how many bytes of the replication stream the node has."""
        info = self.info("replication")
        return int(info["master_repl_offset"] if info["role"] == "master" else info["slave_repl_offset"])

    def linked(self) -> bool:
        """Return whether a replica has its primary's data and follows it."""
        info = self.info("replication")
        return info.get("master_link_status") == "up" and not int(info.get("master_sync_in_progress", 0))

    def used_bytes(self) -> int:
        """Return the bytes in use, as the server counts them against its limit."""
        return int(self.info("memory")["used_memory"])

    def command(self, *words: str) -> Any:
        """Run one command as the service; sent again where its connection is cut, as by a CLIENT KILL of everybody."""
        for _ in range(CUT_TIMES):
            with contextlib.suppress(WireError):
                return self.server.command(*words)
            if not self.server.alive:
                break
        return self.server.command(*words)

    def configure(self, settings: Settings) -> bool:
        """Bring a running node to new parameters; return False where some wait for a reboot."""
        before, after = self.settings.directives(), settings.directives()
        changed = {name for name in after if before.get(name) != after[name]}
        live = {name for name in changed if not parameters.needs_reboot(self.engine.family, {name})}
        for name in sorted(live):
            self.command("CONFIG", "SET", name, after[name])
        self.settings = settings
        return live == changed

    def save(self, target: Path) -> int:
        """Write the data to an RDB file without stopping the service (BGSAVE); return its size in bytes."""
        self.server.rdb_path.unlink(missing_ok=True)
        self._start_saving()
        wait(lambda: not int(self.info("persistence")["rdb_bgsave_in_progress"]), f"{self.cluster_id} to save")
        if not self.server.rdb_path.exists():
            raise NodeFailed(f"{self.cluster_id} could not save: {self.server.last_words()}")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.server.rdb_path, target)
        self.server.rdb_path.unlink()
        return target.stat().st_size

    def _start_saving(self) -> None:
        """BGSAVE, which the server refuses for a moment while it forks for a replica."""
        deadline = time.monotonic() + SYNC_TIMEOUT_S
        while True:
            try:
                self.command("BGSAVE")
                return
            except Refused:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


class Nodes:
    """Starts nodes in one directory, under one set of secrets."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.access = access.Access()
        self.refuse_client_pause = False
        self._numbers = itertools.count(1)
        # One at a time: the later call must not be overtaken by an earlier one with what was before.
        self._applying = threading.Lock()

    def start(
        self,
        cluster_id: str,
        zone: str,
        settings: Settings,
        *,
        rdb: Path | None = None,
        follow: Node | None = None,
        port: int = 0,
        more: Mapping[str, str] | None = None,
    ) -> Node:
        """Return a running node: empty, from an RDB file, or replicating another one.

        `port` 0 is any free one; `more` are further directives. Raises ServerFailed with the
        server's own words when it does not start.
        """
        config: dict[str, Any] = {**settings.directives(), **(more or {})}
        config["client-output-buffer-limit"] = _by_class(config["client-output-buffer-limit"])
        # Data that does not fit must be seen as such: a limit during the load could evict it.
        limit = config.pop("maxmemory")
        config |= self.access.directives(
            settings.engine, settings.logins.present, refuse_client_pause=self.refuse_client_pause
        )
        server = Server(
            settings.engine,
            self.directory / f"{cluster_id}.{next(self._numbers)}",
            port,
            config=config,
            rdb=rdb,
            replica_of=follow.server if follow else None,
            renamed=self.access.renamed,
            user=access.ADMIN_USER,
            password=self.access.password,
            ready_timeout_s=LOAD_TIMEOUT_S,
        )
        node = Node(cluster_id, zone, settings, server)
        if rdb is None:
            node.command("CONFIG", "SET", "maxmemory", limit)
        return node

    def apply_access(self, node: Node) -> None:
        """Bring the users of applications on a running node to those of its group and the cloud's settings."""
        with self._applying:
            wanted = node.settings.logins.present
            for login in wanted:
                rules = access.rules_of(login, node.engine, refuse_client_pause=self.refuse_client_pause)
                node.command("ACL", "SETUSER", login.name, *rules)
            known = {name.decode() for name in node.command("ACL", "USERS")}
            if gone := known - {login.name for login in wanted} - {access.ADMIN_USER}:
                node.command("ACL", "DELUSER", *sorted(gone))

    def stop(self, node: Node) -> None:
        """End a node and remove its files."""
        node.server.kill()
        shutil.rmtree(node.server.directory, ignore_errors=True)


def wait(condition: Callable[[], bool], what: str, timeout_s: float = SYNC_TIMEOUT_S) -> None:
    """Wait until a condition holds; raises NodeFailed when it does not in time."""
    deadline = time.monotonic() + timeout_s
    pause_s = POLL_S
    while not condition():
        if time.monotonic() > deadline:
            raise NodeFailed(f"Waited {timeout_s:.0f} s for {what}, in vain.")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.2, 0.1)


def _by_class(limits: str) -> list[str]:
    """Return the output buffer limits one class a line, as the configuration file has them."""
    words = limits.split()
    return [" ".join(words[start : start + 4]) for start in range(0, len(words), 4)]

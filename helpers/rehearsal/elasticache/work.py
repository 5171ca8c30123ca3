"""Do to the nodes of a replication group what takes time: create, upgrade, scale, save, delete.

Everything here runs in a thread of its own and touches real servers; the service's lock is held
only while what a description shows is changed.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import RLock

from helpers.rehearsal.elasticache.endpoints import Endpoints, Front
from helpers.rehearsal.elasticache.events import CLUSTER, GROUP, Events
from helpers.rehearsal.elasticache.groups import Group
from helpers.rehearsal.elasticache.nodes import Node, NodeFailed, Nodes, Settings, wait
from helpers.rehearsal.relay import Relay
from helpers.rehearsal.servers import is_free

# The pause is lifted or its server killed long before: were it to end by itself, writes acknowledged
# after that would be lost.
PAUSE_S = 3600
CATCH_UP_TIMEOUT_S = 15.0


class Work:
    """The hands of the service."""

    def __init__(self, nodes: Nodes, relay: Relay, events: Events, lock: RLock, endpoints: Endpoints) -> None:
        self.nodes = nodes
        self.relay = relay
        self.endpoints = endpoints
        self.events = events
        self.lock = lock

    def create(self, group: Group, files: list[Path]) -> None:
        """Start the nodes of a new group, from an RDB file when there is one.

        Raises NodeFailed or ServerFailed; then no server is left running.
        """
        rdb = files[0] if files else None
        started: list[Node] = []
        try:
            primary = self.nodes.start(group.planned[0], group.zones[0], group.settings, rdb=rdb)
            started.append(primary)
            if rdb is not None:
                self._admit(primary)
            primary.is_primary = True
            for name, zone in zip(group.planned[1:], group.zones[1:], strict=True):
                started.append(self.nodes.start(name, zone, group.settings, follow=primary))
            wait_linked(started[1:])
        except Exception:
            for node in started:
                self.nodes.stop(node)
            raise
        self._serve(group, started)

    def configure(self, group: Group, settings: Settings) -> None:
        """Bring running nodes to changed parameters, live where the server can."""
        in_sync = [node.configure(replace(settings, engine=node.engine)) for node in group.nodes]
        with self.lock:
            group.settings = settings
            group.parameter_status = "in-sync" if all(in_sync) else "pending-reboot"

    def replace_nodes(self, group: Group, settings: Settings) -> None:
        """Move a group to another engine version or node type, keeping its data and endpoints."""
        if group.primary.used_bytes() > settings.memory_limit:
            raise NodeFailed(
                f"The data of {group.id} does not fit into {settings.node_type} "
                f"({settings.memory_limit} bytes for data)."
            )
        old = list(group.nodes)
        replace_all = self._replace_rolling if group.replicas else self._replace_restarting
        new = replace_all(group, settings)
        for node in old:
            self.nodes.stop(node)
        with self.lock:
            group.settings = settings
            group.parameter_status = "in-sync"
        wait_linked(group.replicas)
        self._say(group, new, f"engine version {settings.engine.version} on {settings.node_type}")

    def add_replicas(self, group: Group, ids: list[str], zones: list[str]) -> None:
        """Start replicas and let readers reach them once they have the data."""
        new: list[Node] = []
        try:
            for name, zone in zip(ids, zones, strict=True):
                new.append(self.nodes.start(name, zone, group.settings, follow=group.primary))
            wait_linked(new)
        except Exception:
            for node in new:
                self.nodes.stop(node)
            raise
        self._serve(group, [*group.nodes, *new], keep_primary=True)

    def remove_replicas(self, group: Group, ids: list[str]) -> None:
        """Take replicas away from the readers, then end them."""
        gone = [group.node(name) for name in ids]
        self._serve(group, [node for node in group.nodes if node not in gone], keep_primary=True)
        for node in gone:
            self.nodes.stop(node)
            self.events.add(CLUSTER, node.cluster_id, "Cache cluster deleted")

    def lead(self, group: Group) -> None:
        """Lead the endpoints of a group to the nodes that it has."""
        readers = _readers(group)
        self._lead(group, [group.primary.server.port], readers)

    def lead_away(self, group: Group) -> None:
        """Lead clients past the nodes that have failed."""
        self._serve(group, group.nodes, keep_primary=True)

    def promote(self, group: Group, failed: Node, replica: Node) -> None:
        """Make a replica the primary in the place of one that has failed."""
        replica.command("REPLICAOF", "NO", "ONE")
        with self.lock:
            failed.is_primary, replica.is_primary = False, True
        self._serve(group, group.nodes)
        self._follow(group, replica)

    def replace(self, group: Group, failed: list[Node]) -> None:
        """Put new nodes in the place of failed ones, at their addresses."""
        for node in sorted(failed, key=lambda node: not node.is_primary):
            self._replace_one(group, node)

    def _replace_one(self, group: Group, failed: Node) -> None:
        """Replace a failed node by a copy of the primary.

        Where it is the primary itself, by a copy of the replica that has most; where there is none, by an empty one.
        """
        others = [node for node in group.nodes if node.server.alive]
        source = max(others, key=lambda node: (node.is_primary, node.offset()), default=None)
        if source is not None and failed.is_primary:
            # A replica without its primary lets nobody copy it.
            source.command("REPLICAOF", "NO", "ONE")
        port = failed.server.port if is_free(failed.server.port) else 0
        new = self.nodes.start(failed.cluster_id, failed.zone, failed.settings, follow=source, port=port)
        try:
            if source is not None:
                wait_linked([new])
            if failed.is_primary and source is not None:
                new.command("REPLICAOF", "NO", "ONE")
        except Exception:
            self.nodes.stop(new)
            raise
        new.is_primary = failed.is_primary
        self._serve(
            group, [new if node is failed else node for node in group.nodes], keep_primary=not new.is_primary
        )
        self.nodes.stop(failed)
        self._follow(group, group.primary)

    def _follow(self, group: Group, primary: Node) -> None:
        """Let the running replicas of a group copy its primary."""
        replicas = [node for node in group.replicas if node.server.alive]
        for node in replicas:
            node.command("REPLICAOF", *map(str, primary.server.address))
        wait_linked(replicas)

    def save(self, group: Group, node: Node, target: Path) -> int:
        """Save a node to an RDB file that has every write acknowledged before now; return its bytes."""
        reached = group.primary_of(node.shard).offset()
        wait(lambda: node.offset() >= reached, f"{node.cluster_id} to catch up with its primary")
        return node.save(target)

    def delete(self, group: Group) -> None:
        """End everything that belongs to a group."""
        for node in group.nodes:
            self.nodes.stop(node)
        if not group.alone:
            self.relay.close(group.primary_port, host=group.primary_host)
            self.relay.close(group.reader_port, host=group.reader_host)
        for front in group.fronts.values():
            self.relay.close(front.port, host=front.host)

    def _admit(self, node: Node) -> None:
        """Put the node's limit in force, unless what it was seeded with is larger."""
        used, limit = node.used_bytes(), node.settings.memory_limit
        if used > limit:
            raise NodeFailed(
                f"The backup needs {used} bytes of memory; a {node.settings.node_type} gives {limit} bytes to data."
            )
        node.command("CONFIG", "SET", "maxmemory", str(limit))

    def _replace_rolling(self, group: Group, settings: Settings) -> list[Node]:
        """Replace every node by a new one that replicates it, then hand the primary's role over.

        Writes wait, at the server, from the moment the old primary is paused until clients
        reconnect to the new one; none that was acknowledged can be missing there, because the new
        primary has received the whole replication stream before it is promoted.
        """
        new: list[Node] = []
        try:
            primary = self._successor(group.primary, settings, group.primary)
            new.append(primary)
            # They follow the successor from the start, so that its promotion costs them no new copy.
            new += [self._successor(node, settings, primary) for node in group.replicas]
            wait_linked(new)
            with self._paused(group.primary):
                reached = group.primary.offset()
                wait(lambda: primary.offset() >= reached, "the new primary to catch up", CATCH_UP_TIMEOUT_S)
                primary.command("REPLICAOF", "NO", "ONE")
                primary.is_primary = True
                old = group.primary
                self._serve(group, sorted(new, key=lambda node: node.cluster_id))
                self.nodes.stop(old)
        except Exception:
            for node in new:
                if node not in group.nodes:
                    self.nodes.stop(node)
            raise
        return new

    def _replace_restarting(self, group: Group, settings: Settings) -> list[Node]:
        """Save, stop, start from the file: without a replica there is nobody to take over meanwhile."""
        old = group.primary
        with self._paused(old):
            file = old.server.directory / "upgrade.rdb"
            old.save(file)
            self._lead(group, [], [])
            for front in group.fronts.values():
                self.relay.point(front.port, [], host=front.host)
            old.server.kill()
        try:
            return [self._resume(group, old, settings, file)]
        except Exception:
            # The way back: the version that ran before, on what it saved.
            self._resume(group, old, old.settings, file)
            raise

    def _resume(self, group: Group, old: Node, settings: Settings, file: Path) -> Node:
        """Start a node in the place of a stopped one, from what that one saved, and serve it."""
        new = self.nodes.start(old.cluster_id, old.zone, settings, rdb=file)
        self._admit(new)
        new.is_primary, new.created_at = True, old.created_at
        self._serve(group, [new])
        return new

    def _successor(self, node: Node, settings: Settings, follow: Node) -> Node:
        new = self.nodes.start(node.cluster_id, node.zone, settings, follow=follow)
        new.created_at = node.created_at
        return new

    @contextmanager
    def _paused(self, node: Node) -> Iterator[None]:
        """Hold back writes on a node; let them go on if the block fails."""
        node.command("CLIENT", "PAUSE", str(PAUSE_S * 1000), "WRITE")
        try:
            yield
        except Exception:
            if node.server.alive:
                node.command("CLIENT", "UNPAUSE")
            raise

    def _serve(self, group: Group, nodes: list[Node], *, keep_primary: bool = False) -> None:
        """Show these nodes, and lead the group's endpoints to them."""
        if group.serving.nodes:
            self._front(group, nodes)
        with self.lock:
            group.nodes = nodes
            group.planned = []
        readers = _readers(group)
        self._lead(group, None if keep_primary else [group.primary.server.port], readers)

    def _lead(self, group: Group, primary: list[int] | None, readers: list[int]) -> None:
        """Lead the group's endpoints to server ports; the primary's, with None, where it led before."""
        if group.alone:
            return
        if primary is not None:
            self.relay.point(group.primary_port, primary, host=group.primary_host)
        self.relay.point(group.reader_port, readers, host=group.reader_host)

    def _front(self, group: Group, nodes: list[Node]) -> None:
        """Give every node an endpoint of its own that leads to its present server, and only these nodes."""
        fronts: dict[str, Front] = {}
        for node in nodes:
            front, target = group.fronts.get(node.cluster_id), node.server.port
            if front is None:
                host, port = self.endpoints.open(group.serving, [target])
                front = Front(host, port, target)
            elif front.target != target:
                self.relay.point(front.port, [target], host=front.host)
                front = Front(front.host, front.port, target)
            fronts[node.cluster_id] = front
        gone = [front for name, front in group.fronts.items() if name not in fronts]
        with self.lock:
            group.fronts = fronts
        for front in gone:
            self.relay.close(front.port, host=front.host)

    def _say(self, group: Group, nodes: list[Node], what: str) -> None:
        for node in nodes:
            self.events.add(CLUSTER, node.cluster_id, f"Cache node 0001 replaced: {what}")
        if not group.alone:
            self.events.add(GROUP, group.id, f"Replication group {group.id} now runs {what}")


def _readers(group: Group) -> list[int]:
    """Return the server ports that the reader endpoint leads to."""
    return [node.server.port for node in group.replicas if node.server.alive] or [group.primary.server.port]


def wait_linked(nodes: list[Node]) -> None:
    """Wait until replicas have the data and the stream; raises NodeFailed when one ends or never does."""
    for node in nodes:
        wait(functools.partial(_linked, node), f"{node.cluster_id} to replicate")


def _linked(node: Node) -> bool:
    if not node.server.alive:
        raise NodeFailed(f"{node.cluster_id} ended: {node.server.last_words()}")
    return node.linked()

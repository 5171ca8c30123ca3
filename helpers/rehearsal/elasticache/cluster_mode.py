"""Do to a group with cluster mode enabled what takes time: form, upgrade, scale, fail over.

Clients and nodes know each node by an endpoint of the relay, with TLS where the group has it, which
the node announces to the others. A new node in the place of another takes over that endpoint, so
that its address stays; it joins under an endpoint of its own first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from helpers.rehearsal.elasticache import seeding
from helpers.rehearsal.elasticache.access import ADMIN_USER
from helpers.rehearsal.elasticache.groups import Group
from helpers.rehearsal.elasticache.nodes import Node, NodeFailed, Settings, wait
from helpers.rehearsal.elasticache.shards import SLOTS, Shard, shard_of, slots_in
from helpers.rehearsal.elasticache.work import CATCH_UP_TIMEOUT_S, PAUSE_S, Work, wait_linked
from helpers.rehearsal.servers import HOST
from helpers.rehearsal.wire import Refused

# Source: AWS, "Valkey and Redis OSS parameters" (cluster-node-timeout).
NODE_TIMEOUT_MS = 15_000
# A node tells the others of itself after half the timeout at the latest: too long to wait for each change.
HURRY_MS = 2_000
# The servers' own default.
PING_PERIOD_S = 10
SETTLE_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Seen:
    """What one node of a cluster knows of another: host and port, and the bus id of the primary that it follows."""

    address: tuple[str, int]
    follows: str


class ClusterWork(Work):
    """The hands of the service on groups with cluster mode enabled."""

    def create(self, group: Group, files: list[Path]) -> None:
        """Start and form a new cluster, from RDB files when there are some.

        Raises NodeFailed or ServerFailed; then no server is left running.
        """
        direct = files if len(files) == len(group.shards) else []
        started = self._start_all(group, direct)
        try:
            if direct and not _fits(started, group.shards):
                # Keys of a shard are in another's file: start anew, and put each where it belongs.
                self._stop_all(started)
                direct, started = [], []
                started = self._start_all(group, [])
            self._form(group, started)
            if files and not direct:
                seeding.distribute(self.nodes, files, {s.id: _primary(started, s.id) for s in group.shards}, group.shards)
            for node in started:
                if node.is_primary and files:
                    self._admit(node)
            wait_linked([node for node in started if not node.is_primary])
        except Exception:
            self._stop_all(started)
            raise
        self._serve(group, started)

    def replace_nodes(self, group: Group, settings: Settings) -> None:
        """Move a cluster to another engine version or node type, shard by shard, keeping data and addresses."""
        for shard in group.shards:
            primary = group.primary_of(shard.id)
            if primary.used_bytes() > settings.memory_limit:
                raise NodeFailed(
                    f"The data of {primary.cluster_id} does not fit into {settings.node_type} "
                    f"({settings.memory_limit} bytes for data)."
                )
        for shard in group.shards:
            self._replace_shard(group, shard, settings)
        with self.lock:
            group.settings = settings
            group.parameter_status = "in-sync"
        self._say(group, group.nodes, f"engine version {settings.engine.version} on {settings.node_type}")

    def add_replicas(self, group: Group, ids: list[str], zones: list[str]) -> None:
        """Start replicas in the shards that their ids name, and make them known."""
        new: list[Node] = []
        try:
            for name, zone in zip(ids, zones, strict=True):
                new.append(self._start(group, name, zone, group.settings))
            self._join(group.nodes, new, group.primary_of)
        except Exception:
            self._leave(group.nodes, new)
            raise
        self._serve(group, [*group.nodes, *new])

    def remove_replicas(self, group: Group, ids: list[str]) -> None:
        """Take replicas out of the cluster and end them."""
        gone = [group.node(name) for name in ids]
        self._serve(group, [node for node in group.nodes if node not in gone])
        self._leave(group.nodes, gone)
        for node in gone:
            self.events.add("cache-cluster", node.cluster_id, "Cache cluster deleted")

    def promote(self, group: Group, failed: Node, replica: Node) -> None:
        """Give a failed primary's slots to one of its replicas."""
        # Without the votes of the others: half of two primaries is no majority.
        replica.command("CLUSTER", "FAILOVER", "TAKEOVER")
        with self.lock:
            failed.is_primary, replica.is_primary = False, True
        alive = _alive(group.nodes)
        with self._hurried(alive):
            wait(lambda: all(_follow_their_primary(group, node) for node in alive), "the failover to be known")
        self._serve(group, group.nodes)

    def replace(self, group: Group, failed: list[Node]) -> None:
        """Put new nodes in the place of failed ones, at their addresses.

        They copy their primaries; one in the place of a primary is empty.
        """
        others = _alive(group.nodes)
        _forget(others, failed)
        new: list[Node] = []
        try:
            for node in failed:
                new.append(self._start(group, node.cluster_id, node.zone, node.settings, address=node.address))
                if node.is_primary:
                    new[-1].is_primary = True
                    _own(new[-1], next(shard for shard in group.shards if shard.id == node.shard))
            primaries = {node.shard: node for node in [*others, *new] if node.is_primary}
            self._join(others, new, primaries.__getitem__)
        except Exception:
            for node in new:
                self.nodes.stop(node)
            _forget(_alive(others), new)
            raise
        for node in failed:
            self.nodes.stop(node)
        self._serve(group, [*others, *new])

    def delete(self, group: Group) -> None:
        """End everything that belongs to a group."""
        self._stop_all(group.nodes)
        self.relay.close(group.primary_port, host=group.primary_host)

    # -- a cluster's nodes ---------------------------------------------------------------------------

    def _start_all(self, group: Group, files: list[Path]) -> list[Node]:
        """Start the members of a new group, the primaries from files where there are some."""
        members = [
            (name, zone, file if number == 0 else None)
            for shard, file in zip(group.shards, files or [None] * len(group.shards), strict=True)
            for number, (name, zone) in enumerate(zip(shard.member_ids(group.id), shard.zones, strict=True))
        ]
        with ThreadPoolExecutor(len(members)) as pool:
            starting = [pool.submit(self._start, group, name, zone, group.settings, rdb=file) for name, zone, file in members]
        started = [one.result() for one in starting if one.exception() is None]
        if failed := [error for one in starting if (error := one.exception()) is not None]:
            self._stop_all(started)
            raise failed[0]
        for shard in group.shards:
            next(node for node in started if node.shard == shard.id).is_primary = True
        return started

    def _start(
        self,
        group: Group,
        name: str,
        zone: str,
        settings: Settings,
        *,
        rdb: Path | None = None,
        address: tuple[str, int] | None = None,
        later: tuple[str, int] | None = None,
    ) -> Node:
        """Start a node of a cluster that knows nobody yet, behind an endpoint of the relay.

        `address` is one that exists already, None for a new one; `later` the one that it will have.
        """
        login = (ADMIN_USER, self.nodes.access.password)
        host, port = address or self.endpoints.open(group.serving, replicas=login)
        more = {
            "cluster-enabled": "yes",
            # The bus is looked for where the endpoint is.
            "bind": " ".join(dict.fromkeys([HOST, host, *([later[0]] if later else [])])),
            "cluster-announce-ip": host,
            "cluster-announce-port": str(port),
            "cluster-node-timeout": str(NODE_TIMEOUT_MS),
            # The service decides who takes over, and for which shard a replica is.
            "cluster-replica-no-failover": "yes",
            "cluster-migration-barrier": "999",
        }
        try:
            node = self.nodes.start(name, zone, settings, rdb=rdb, more=more)
        except Exception:
            if address is None:
                self.relay.close(port, host=host)
            raise
        node.shard, node.address = shard_of(name), (host, port)
        node.bus_id = node.command("CLUSTER", "MYID").decode()
        self.relay.point(port, [node.server.port], host=host)
        return node

    def _stop_all(self, nodes: list[Node]) -> None:
        for node in nodes:
            self.nodes.stop(node)
            self._close(node.known_at)

    def _form(self, group: Group, nodes: list[Node]) -> None:
        """Make a cluster of nodes that know nobody yet."""
        for number, shard in enumerate(group.shards, 1):
            primary = _primary(nodes, shard.id)
            primary.command("CLUSTER", "SET-CONFIG-EPOCH", str(number))
            _own(primary, shard)
        self._join([], nodes, lambda shard: _primary(nodes, shard))

    def _join(self, present: list[Node], new: list[Node], primary_of: Callable[[str], Node]) -> None:
        """Make new nodes known to all; those that are replicas copy their primaries' data. Returns when all is settled."""
        everyone = [*present, *new]
        with self._hurried(everyone):
            for number, node in enumerate(new):
                for other in [*present, *new[:number]]:
                    node.command("CLUSTER", "MEET", *map(str, other.known_at), str(other.server.bus_port))
            ids = {node.bus_id for node in everyone}
            wait(lambda: all(set(seen_by(node)) == ids for node in everyone), "the nodes to know each other", SETTLE_TIMEOUT_S)
            for node in new:
                if not node.is_primary:
                    node.command("CLUSTER", "REPLICATE", primary_of(node.shard).bus_id)
            wait_linked([node for node in new if not node.is_primary])
            self._settle(everyone)

    def _leave(self, staying: list[Node], gone: list[Node]) -> None:
        """End nodes, their addresses, and what the others know of them."""
        self._stop_all(gone)
        _forget(_alive(staying), gone)

    def _settle(self, nodes: list[Node]) -> None:
        """Wait until every node knows every other by its address and role, and serves all slots."""
        primaries = {node.shard: node.bus_id for node in nodes if node.is_primary}
        expected = {n.bus_id: Seen(n.known_at, "" if n.is_primary else primaries[n.shard]) for n in nodes}
        addresses = {node.known_at for node in nodes}

        def settled() -> bool:
            return all(seen_by(node) == expected and _serves_all(node) and _led_to(node) == addresses for node in nodes)

        wait(settled, "the cluster to be ok", SETTLE_TIMEOUT_S)
        wait_linked([node for node in nodes if not node.is_primary])

    @contextlib.contextmanager
    def _hurried(self, nodes: Iterable[Node]) -> Iterator[None]:
        """Let nodes tell each other of changes, and of replicas, sooner than they do by themselves."""
        hurried = list(nodes)
        for node in hurried:
            node.command("CONFIG", "SET", "cluster-node-timeout", str(HURRY_MS))
            # From Redis 7.0 on a replica is not told to clients before it has received something.
            node.command("CONFIG", "SET", "repl-ping-replica-period", "1")
        try:
            yield
        finally:
            for node in _alive(hurried):
                node.command("CONFIG", "SET", "cluster-node-timeout", str(NODE_TIMEOUT_MS))
                node.command("CONFIG", "SET", "repl-ping-replica-period", str(PING_PERIOD_S))

    # -- an upgrade ----------------------------------------------------------------------------------

    def _replace_shard(self, group: Group, shard: Shard, settings: Settings) -> None:
        """Replace every node of a shard by a new one that replicates it, then hand the primary's role over."""
        old = group.nodes_of(shard.id)
        primary = group.primary_of(shard.id)
        new: list[Node] = []
        try:
            for node in old:
                new.append(self._start(group, node.cluster_id, node.zone, settings, later=node.address))
                new[-1].created_at = node.created_at
            self._join(group.nodes, new, group.primary_of)
            successor = next(node for node in new if node.cluster_id == primary.cluster_id)
            self._hand_over(primary, successor)
        except Exception:
            self._leave(group.nodes, new)
            raise
        former = self._take_places(old, new)
        self._serve(group, [*(node for node in group.nodes if node not in old), *new])
        with self._hurried(group.nodes):
            # No replica forgets the primary that it follows.
            wait(lambda: all(_follows(node, successor) for node in new), "the replicas to follow their new primary")
            _forget(group.nodes, old)
            self._settle(group.nodes)
        # Until all know the lasting addresses, clients are still sent to the former ones.
        for address in former:
            self._close(address)

    def _hand_over(self, primary: Node, successor: Node) -> None:
        """Give a primary's slots to a replica of it that has every write that was acknowledged.

        Writes wait, at the old primary, until it knows of the new one; then it sends them there.
        """
        primary.command("CLIENT", "PAUSE", str(PAUSE_S * 1000), "WRITE")
        try:
            reached = primary.offset()
            wait(lambda: successor.offset() >= reached, "the new primary to catch up", CATCH_UP_TIMEOUT_S)
            successor.command("CLUSTER", "FAILOVER", "TAKEOVER")
            successor.is_primary = True
            wait(lambda: _follows(primary, successor), "the old primary to know the new one", CATCH_UP_TIMEOUT_S)
        finally:
            # It is a replica now, or still the only primary: it takes no write that the other misses.
            primary.command("CLIENT", "UNPAUSE")

    def _take_places(self, old: list[Node], new: list[Node]) -> list[tuple[str, int]]:
        """Lead the addresses of old nodes to new ones, end the old ones, and return the new ones' former addresses."""
        former = []
        for before, after in zip(old, new, strict=True):
            former.append(after.known_at)
            host, port = before.known_at
            self.relay.point(port, [after.server.port], host=host)
            self.nodes.stop(before)
            after.command("CONFIG", "SET", "cluster-announce-ip", host)
            after.command("CONFIG", "SET", "cluster-announce-port", str(port))
            after.address = before.address
        return former

    def _close(self, address: tuple[str, int]) -> None:
        host, port = address
        self.relay.close(port, host=host)

    def _serve(self, group: Group, nodes: list[Node], *, keep_primary: bool = False) -> None:
        """Show these nodes, and lead the configuration endpoint to them."""
        with self.lock:
            group.nodes = sorted(nodes, key=lambda node: node.cluster_id)
            group.planned = []
        ports = [node.server.port for node in _alive(group.nodes)]
        self.relay.point(group.primary_port, ports, host=group.primary_host)


def seen_by(node: Node) -> dict[str, Seen]:
    """Return what a node knows of the nodes of its cluster, itself included, by bus id.

    Nodes that it does not fully know yet, or takes for failed, have the port 0.
    """
    seen = {}
    for line in node.command("CLUSTER", "NODES").decode().splitlines():
        bus_id, address, flags, follows, *_, = line.split()
        host, _, port = address.partition("@")[0].rpartition(":")
        doubtful = {"handshake", "noaddr", "fail", "fail?"} & set(flags.split(","))
        seen[bus_id] = Seen((host, 0 if doubtful else int(port)), follows.strip("-"))
    return seen


def _led_to(node: Node) -> set[tuple[str, int]]:
    """Return the addresses that a node leads clients to."""
    return {(place[0].decode(), int(place[1])) for slots in node.command("CLUSTER", "SLOTS") for place in slots[2:]}


def _serves_all(node: Node) -> bool:
    lines = node.command("CLUSTER", "INFO").decode().splitlines()
    info = dict(line.split(":", 1) for line in lines if ":" in line)
    return info["cluster_state"] == "ok" and int(info["cluster_slots_ok"]) == SLOTS


def _follows(node: Node, primary: Node) -> bool:
    """Return whether a node takes part as a replica of a primary, or is that primary."""
    own = seen_by(node).get(node.bus_id)
    return own is not None and own.follows == ("" if node is primary else primary.bus_id)


def _follow_their_primary(group: Group, node: Node) -> bool:
    """Return whether a node knows, of all that run, who follows whom."""
    seen = seen_by(node)
    return all(
        (known := seen.get(other.bus_id)) is not None
        and known.follows == ("" if other.is_primary else group.primary_of(other.shard).bus_id)
        for other in _alive(group.nodes)
    )


def _own(primary: Node, shard: Shard) -> None:
    """Assign a shard's slots to its primary, which has taken those that it has keys of."""
    missing = slots_in(shard.slots) - _owned(primary)
    if missing:
        primary.command("CLUSTER", "ADDSLOTS", *map(str, sorted(missing)))


def _owned(node: Node) -> set[int]:
    """Return the slots that a node says are its own."""
    lines = node.command("CLUSTER", "NODES").decode().splitlines()
    own = next(line for line in lines if "myself" in line)
    return {slot for part in own.split()[8:] if not part.startswith("[") for slot in slots_in(part)}


def _fits(nodes: list[Node], shards: Iterable[Shard]) -> bool:
    """Return whether each shard's primary loaded keys of its own slots only."""
    return all(_owned(_primary(nodes, shard.id)) <= slots_in(shard.slots) for shard in shards)


def _forget(nodes: list[Node], gone: list[Node]) -> None:
    """Let nodes forget others that are gone."""
    for node in nodes:
        for other in gone:
            # One that it never knew, or has forgotten already.
            with contextlib.suppress(Refused):
                node.command("CLUSTER", "FORGET", other.bus_id)


def _primary(nodes: list[Node], shard_id: str) -> Node:
    return next(node for node in nodes if node.shard == shard_id and node.is_primary)


def _alive(nodes: list[Node]) -> list[Node]:
    return [node for node in nodes if node.server.alive]

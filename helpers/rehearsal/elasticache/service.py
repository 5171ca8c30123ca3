"""The ElastiCache service of the local cloud: its state, and one entry for every request."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from helpers.rehearsal.elasticache import (
    api,
    failover,
    group_operations,
    parameter_operations,
    reference_operations,
    single_cluster_operations,
    snapshot_operations,
    user_operations,
)
from helpers.rehearsal.elasticache.answers import not_offered
from helpers.rehearsal.elasticache.api import Fault
from helpers.rehearsal.elasticache.certificates import Certificates
from helpers.rehearsal.elasticache.cluster_mode import ClusterWork
from helpers.rehearsal.elasticache.endpoints import Endpoints
from helpers.rehearsal.elasticache.events import Events
from helpers.rehearsal.elasticache.faults import Faults
from helpers.rehearsal.elasticache.groups import Group
from helpers.rehearsal.elasticache.nodes import Nodes
from helpers.rehearsal.elasticache.parameter_groups import ParameterGroups
from helpers.rehearsal.elasticache.snapshots import Snapshots
from helpers.rehearsal.elasticache.storage import Storage
from helpers.rehearsal.elasticache.users import Users
from helpers.rehearsal.elasticache.work import Work
from helpers.rehearsal.relay import Relay

log = logging.getLogger(__name__)

Operation = Callable[["Service", dict[str, Any]], dict[str, Any]]
OPERATIONS: dict[str, Operation] = {
    **group_operations.OPERATIONS,
    **snapshot_operations.OPERATIONS,
    **parameter_operations.OPERATIONS,
    **reference_operations.OPERATIONS,
    **single_cluster_operations.OPERATIONS,
    **user_operations.OPERATIONS,
}


class Service:
    """One account in one region."""

    def __init__(self, directory: Path, endpoint: str, region: str, account: str) -> None:
        self.region = region
        self.account = account
        # Held while state is read or changed, never while a server or S3 is asked.
        self.lock = threading.RLock()
        self.events = Events()
        self.faults = Faults()
        self.users = Users()
        self.parameter_groups = ParameterGroups()
        self.groups: dict[str, Group] = {}
        # Cache clusters outside any replication group, each as a group of its one node.
        self.clusters: dict[str, Group] = {}
        self.snapshots = Snapshots(directory / "snapshots")
        self.subnet_groups: dict[str, dict[str, Any]] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.storage = Storage(endpoint, region, account)
        self.nodes = Nodes(directory / "nodes")
        self.relay = Relay()
        self.certificates = Certificates(directory / "certificates")
        self.endpoints = Endpoints(self.relay, self.certificates)
        self.work = Work(self.nodes, self.relay, self.events, self.lock, self.endpoints)
        self.cluster_work = ClusterWork(self.nodes, self.relay, self.events, self.lock, self.endpoints)
        # When TestFailover was called.
        self.failover_tests: list[datetime] = []
        self.closing = threading.Event()
        self.in_background(functools.partial(failover.watch, self))

    async def handle(
        self, method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]
    ) -> tuple[int, dict[str, str], bytes]:
        """Answer one HTTP request, as MiniStack's handlers do."""
        return await asyncio.to_thread(self.answer, body.decode())

    def answer(self, body: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and XML for a form-encoded request."""
        request_id = str(uuid.uuid4())
        try:
            name, parameters = api.parse(body)
            status, xml = 200, api.serialise(name, self.call(name, parameters), request_id)
        except Fault as error:
            status, xml = api.fault(error, request_id)
        except Exception as error:  # noqa: BLE001  a bug here is the service's failure, as on AWS
            log.exception("ElastiCache request failed")
            status, xml = 500, api.fault(Fault("InternalFailure", f"{type(error).__name__}: {error}"), request_id)[1]
        return status, {"Content-Type": "text/xml"}, xml

    def call(self, name: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Carry out one operation; raises Fault where the service refuses."""
        if name not in OPERATIONS:
            raise not_offered(name)
        return OPERATIONS[name](self, parameters)

    def arn(self, kind: str, name: str) -> str:
        """Return the ARN of a resource: kinds are replicationgroup, cluster, snapshot, parametergroup..."""
        return f"arn:aws:elasticache:{self.region}:{self.account}:{kind}:{name}"

    def group(self, name: str) -> Group:
        """Return a replication group by its id, or raise the service's error."""
        if name.lower() not in self.groups:
            raise Fault("ReplicationGroupNotFoundFault", f"ReplicationGroup {name} not found.")
        return self.groups[name.lower()]

    def work_of(self, group: Group) -> Work:
        """Return the hands that fit a group's cluster mode."""
        return self.cluster_work if group.cluster_mode else self.work

    def group_of_cluster(self, cluster_id: str) -> Group:
        """Return the group that a running cluster is a member of, or raise the service's error."""
        for group in self.all_groups():
            if cluster_id.lower() in [node.cluster_id for node in group.nodes] or (
                group.alone and group.id == cluster_id.lower()
            ):
                return group
        raise Fault("CacheClusterNotFoundFault", f"CacheCluster not found: {cluster_id}")

    def all_groups(self) -> list[Group]:
        """Return the replication groups, and the cache clusters outside them."""
        return [*self.groups.values(), *self.clusters.values()]

    def cluster_ids(self) -> set[str]:
        """Return the ids of all cache clusters, running or planned."""
        return {name for group in self.all_groups() for name in group.member_ids}

    def in_background(self, work: Callable[[], None]) -> None:
        """Run something that takes time in a thread of its own."""
        threading.Thread(target=work, daemon=True, name="elasticache-work").start()

    def refuse_client_pause(self, refuse: bool) -> None:
        """Set whether applications may run CLIENT PAUSE, on all nodes, now and from now on."""
        self.nodes.refuse_client_pause = refuse
        with self.lock:
            nodes = [node for group in self.all_groups() for node in group.nodes]
        for node in nodes:
            self.nodes.apply_access(node)

    def close(self) -> None:
        """End every server and the relay."""
        self.closing.set()
        with self.lock:
            groups = self.all_groups()
        for group in groups:
            for node in group.nodes:
                self.nodes.stop(node)
        self.relay.stop()

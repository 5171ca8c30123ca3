"""The way into a group's data: endpoints, in-transit encryption and AUTH, for an application and node by node."""

from __future__ import annotations

import functools
import json
import time
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import redis

from helpers.aws import Aws, Check, RunbookError
from helpers.aws.errors import error_code
from helpers.elasticache import clients
from helpers.elasticache.groups import Group, Member, Shard

PRIMARY, REPLICA = "primary", "replica"
ROLES = {"master": PRIMARY, "slave": REPLICA}
PORT = 6379
# A node in the same region answers in well under a millisecond.
SLOW_MS = 50.0
NODE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Access:
    """How to connect to a group; `login` (user name and AUTH token) is never shown."""

    group: Group
    login: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    def client(self, name: str = clients.OURS) -> redis.Redis | redis.RedisCluster:
        """A new, connected client as an application has it: of the primary endpoint, or of the whole cluster.

        Raises `RunbookError` where the group cannot be reached.
        """
        try:
            if self.group.cluster_mode:
                return redis.RedisCluster(host=self.group.host, port=int(self.group.port), client_name=name, protocol=2, socket_timeout=NODE_TIMEOUT_S, **self._options())
            client = self.endpoint(name)
            client.ping()
        except redis.RedisError as error:
            raise unreachable(self.group, error) from error
        return client

    def endpoint(self, name: str = clients.OURS) -> redis.Redis:
        """A new plain client of the primary (or configuration) endpoint."""
        return clients.connect(self.group.host, int(self.group.port), name=name, **self._options())

    def node(self, member: Member, name: str = clients.OURS, timeout: float = NODE_TIMEOUT_S) -> redis.Redis:
        """A new plain client of one node."""
        return clients.connect(member.host, int(member.port), name=name, timeout=timeout, **self._options())

    @functools.cached_property
    def primaries(self) -> tuple[redis.Redis, ...]:
        """One plain client for the primary of each shard. Raises `RunbookError` where one cannot be reached."""
        return tuple(self.primary(shard) for shard in self.group.shards) if self.group.cluster_mode else (self.client(),)

    def shard(self, shard: Shard, name: str = clients.OURS) -> redis.Redis:
        """A new plain client for writing to a shard: of the primary endpoint, or with cluster mode enabled of the shard's primary."""
        return self.primary(shard, name) if self.group.cluster_mode else self.endpoint(name)

    def primary(self, shard: Shard, name: str = clients.OURS, timeout: float = NODE_TIMEOUT_S) -> redis.Redis:
        """A new plain client of the node that is a shard's primary, which only the nodes themselves know for certain.

        Raises `RunbookError` where none is at the moment.
        """
        failed: Exception | None = None
        for member in sorted(shard.members, key=lambda one: one.role == REPLICA):
            client = self.node(member, name, timeout)
            try:
                if ROLES.get(client.info("replication")["role"]) == PRIMARY:
                    return client
            except redis.RedisError as error:
                failed = error
            client.close()
        raise unreachable(self.group, failed or RunbookError(f"no node of shard {shard.id} says that it is the primary"))

    def _options(self) -> dict[str, Any]:
        return {**self.login, **({"ssl": True} if self.group.in_transit_encryption else {})}

    def command_lines(self) -> pd.DataFrame:
        """The `redis-cli` commands that lead to this group and to each of its nodes; they hold no token."""
        address = {"primary endpoint" if not self.group.cluster_mode else "configuration endpoint": (self.group.host, self.group.port)}
        address |= {f"node {one.id}": (one.host, one.port) for one in self.group.members}
        return pd.DataFrame([(name, command_line(self.group, *where, user=self.login.get("username", ""))) for name, where in address.items()], columns=["to reach the", "type"])


def command_line(group: Group, host: str, port: int | str = PORT, user: str = "") -> str:
    """The equivalent `redis-cli` command. `-c` follows redirections between shards and is harmless without them.

    `--askpass` asks for the AUTH token: it is then neither on the screen nor in the shell's history.
    Source: https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/in-transit-encryption.html
    """
    options = (["--tls"] if group.in_transit_encryption else []) + (["--user", user] if user else []) + (["--askpass"] if group.auth else [])
    return " ".join(["redis-cli", "-c", "-h", host, "-p", str(port), *options])


def open_group(aws: Aws, group: Group, auth_secret: str = "") -> Access:
    """How to connect to `group`; where it wants AUTH the token comes from the Secrets Manager secret `auth_secret`.

    The secret is the token itself, or JSON with `username` and `password`. Raises `RunbookError` where it is needed
    and cannot be read.
    """
    if not group.auth:
        return Access(group)
    if not auth_secret:
        raise RunbookError(f"{group.id} wants an AUTH token.", "Name the Secrets Manager secret that holds it in the parameter `auth_secret`.")
    return Access(group, read_login(aws, auth_secret))


@functools.cache
def read_login(aws: Aws, secret: str) -> dict[str, str]:
    """`password`, and `username` where there is one, in a secret; read once in a process. Raises `RunbookError` where it cannot be read."""
    try:
        text = aws.client("secretsmanager").get_secret_value(SecretId=secret)["SecretString"]
    except Exception as error:
        code = error_code(error) or type(error).__name__
        raise RunbookError(f"The AUTH token in the secret {secret} cannot be read ({code}).", "Set the parameter `auth_secret`, and allow secretsmanager:GetSecretValue.") from None
    try:
        found = json.loads(text)
    except ValueError:
        found = text
    if not isinstance(found, dict):
        return {"password": text}
    if not found.get("password"):
        raise RunbookError(f"The secret {secret} has no password in it.", "Store the AUTH token, or JSON with username and password.")
    return {name: str(found[name]) for name in ("username", "password") if found.get(name)}


def check_access(access: Access) -> list[Check]:
    """Whether the group is available and each of its nodes answers, with its answering time."""
    group = access.group
    available = group.status in ("available", "snapshotting", "modifying")
    checks = [Check("status", "pass" if available else "fail", f"{group.id} is {group.status}.", "" if available else "Wait until it is available.")]
    return checks + [_check_node(access, member) for member in group.members]


def _check_node(access: Access, member: Member) -> Check:
    name, address = f"node {member.id}", f"{member.host}:{member.port}"
    try:
        with access.node(member) as client:
            client.ping()  # connects first
            started = time.perf_counter()
            client.ping()
            took = (time.perf_counter() - started) * 1000
    except redis.RedisError as error:
        told = unreachable(access.group, error, address)
        return Check(name, "fail", told.what, told.remedy)
    if took > SLOW_MS:
        return Check(name, "warn", f"{address} answers in {took:.1f} ms.", "Is this machine in the group's region, or the node overloaded?")
    return Check(name, "pass", f"{address} answers in {took:.2f} ms.")


def unreachable(group: Group, error: Exception, address: str = "") -> RunbookError:
    """What a connection error means here, with its remedy."""
    if isinstance(error, RunbookError) and error.remedy:
        return error
    what = f"{address or group.endpoint} does not let us in: {str(error).rstrip('.')}."
    if isinstance(error, (redis.AuthenticationError, redis.exceptions.AuthenticationWrongNumberOfArgsError)):
        return RunbookError(what, "Put the present AUTH token, or user and password, into the secret named by `auth_secret`.")
    if isinstance(error, redis.exceptions.NoPermissionError):
        return RunbookError(what, "Give the user in `auth_secret` an access string such as `on ~* &* +@all`: change notifications need `&*`.")
    if "certificate verify failed" in str(error).lower():
        return RunbookError(what, "Use the endpoint that ElastiCache names, and a store of root certificates that has Amazon's (SSL_CERT_FILE).")
    return RunbookError(what, "ElastiCache answers inside its VPC only: run this there, and allow this machine in the group's security group.")

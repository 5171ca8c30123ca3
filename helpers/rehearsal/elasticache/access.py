"""Who may do what on a node: the commands ElastiCache keeps to itself, and the service's own way in."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from helpers.rehearsal.engines import Engine

# The commands that the service itself needs answer to secret names; the others to none.
# Source: AWS, "Restricted Valkey and Redis OSS commands".
NEEDED = ("bgsave", "config", "replicaof", "save")
REMOVED = ("bgrewriteaof", "debug", "migrate", "slaveof", "shutdown")
ADMIN_USER = "elasticache-internal"

# A replica sends SYNC and PSYNC by these very names, so they are refused by permission instead.
_REPLICATION = "-sync -psync -replconf -failover"
# No subcommand of CLUSTER that changes the topology. Redis 6.2 cannot take one subcommand away.
_CLUSTER_READS = "-cluster " + " ".join(
    f"+cluster|{name}"
    for name in [
        "count-failure-reports",
        "countkeysinslot",
        "getkeysinslot",
        "help",
        "info",
        "keyslot",
        "myid",
        "nodes",
        "replicas",
        "slaves",
        "slots",
    ]
)
_CLUSTER_READS_7 = "+cluster|myshardid +cluster|shards"
_ACL_READS = "-acl +acl|cat +acl|genpass +acl|getuser +acl|list +acl|users +acl|whoami"
# Redis 6.2 cannot take one subcommand away: take the command away and give the others back.
_CLIENT_BUT_PAUSE_6 = "-client " + " ".join(
    f"+client|{name}"
    for name in [
        "caching",
        "getname",
        "getredir",
        "help",
        "id",
        "info",
        "kill",
        "list",
        "reply",
        "setname",
        "tracking",
        "trackinginfo",
        "unblock",
        "unpause",
    ]
)


@dataclass(frozen=True)
class Access:
    """The secrets of one cloud: how its service reaches its own nodes."""

    password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    _salt: str = field(default_factory=lambda: secrets.token_hex(8), repr=False)

    @property
    def renamed(self) -> dict[str, str]:
        """Return what the restricted commands answer to."""
        return {**{name: f"{name}-{self._salt}" for name in NEEDED}, **dict.fromkeys(REMOVED, "")}

    def directives(self, engine: Engine, *, refuse_client_pause: bool) -> dict[str, str | list[str]]:
        """Return the configuration that makes the users and lets a replica log in at its primary."""
        return {
            "user": [
                f"default {' '.join(default_rules(engine, refuse_client_pause=refuse_client_pause))}",
                f"{ADMIN_USER} reset on >{self.password} ~* &* +@all",
            ],
            "masteruser": ADMIN_USER,
            "masterauth": self.password,
        }


def default_rules(engine: Engine, *, refuse_client_pause: bool) -> list[str]:
    """Return the ACL rules of the user that applications are, as words."""
    rules = f"reset on nopass ~* &* +@all {_REPLICATION} {_CLUSTER_READS} {_ACL_READS}"
    if engine.number >= (7, 2):
        rules += f" {_CLUSTER_READS_7}"
    if refuse_client_pause:
        rules += f" {_CLIENT_BUT_PAUSE_6}" if engine.number < (7, 0) else " -client|pause"
    return rules.split()

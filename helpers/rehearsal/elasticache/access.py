"""Who may do what on a node: the commands ElastiCache keeps to itself, and the service's own way in."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

from helpers.rehearsal.elasticache.logins import Login
from helpers.rehearsal.engines import Engine

# The commands that the service itself needs answer to secret names; the others to none.
# Source: AWS, "Restricted Valkey and Redis OSS commands".
NEEDED = ("bgsave", "config", "replicaof", "save")
REMOVED = ("bgrewriteaof", "debug", "migrate", "slaveof", "shutdown")
ADMIN_USER = "elasticache-internal"

# A replica sends SYNC and PSYNC by these very names, so they are refused by permission instead.
_REPLICATION = "-sync -psync -replconf -failover"
# What CLUSTER tells, and cannot change.
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
_CLUSTER_READS_SINCE_7_2 = "+cluster|myshardid +cluster|shards"
_NO_ACL_WRITES = "-acl|setuser -acl|deluser -acl|load -acl|save -acl|log"
_ACL_READS = "-acl +acl|cat +acl|genpass +acl|getuser +acl|list +acl|users +acl|whoami"
# Take the command away and give the others back.
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

    def directives(
        self, engine: Engine, logins: Iterable[Login], *, refuse_client_pause: bool
    ) -> dict[str, str | list[str]]:
        """Return the configuration that makes the users and lets a replica log in at its primary."""
        return {
            "user": [
                *(
                    " ".join(
                        _quoted(word)
                        for word in [login.name, *rules_of(login, engine, refuse_client_pause=refuse_client_pause)]
                    )
                    for login in logins
                ),
                f"{ADMIN_USER} reset on >{self.password} ~* &* +@all",
            ],
            "masteruser": ADMIN_USER,
            "masterauth": self.password,
        }


def rules_of(login: Login, engine: Engine, *, refuse_client_pause: bool) -> list[str]:
    """Return the ACL rules of a user of applications, as words: its own, less what ElastiCache keeps to itself."""
    # Redis 6.2 cannot take one subcommand away; giving the others back is right for who has everything.
    everything = [word for word in login.access.split() if word[0] in "+-"] == ["+@all"]
    whole = engine.number >= (7, 0)
    rules = [_REPLICATION, _CLUSTER_READS, _ACL_READS if everything else _NO_ACL_WRITES if whole else "-acl"]
    if engine.number >= (7, 2):
        rules.append(_CLUSTER_READS_SINCE_7_2)
    if refuse_client_pause:
        rules.append("-client|pause" if whole else _CLIENT_BUT_PAUSE_6 if everything else "-client")
    return login.rules() + " ".join(rules).split()


def _quoted(word: str) -> str:
    """Return a word as the configuration file takes it."""
    if not set(word) & set("\"'\\"):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'

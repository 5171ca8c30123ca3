"""What one upgrade is asked to do: its parameters, and the names of what it creates."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, fields
from typing import Any

from helpers.aws import RunbookError

STRATEGIES = ("blue_green", "in_place", "classic")
FREEZES = ("auto", "client_pause", "read_only_flag")
# RDB format an engine version writes; loading, RESTORE and replication work forward only.
# Sources: redis and valkey release notes; measured with 6.2.14, 7.0.15, 8.1.8 and 9.1.2.
RDB_VERSIONS = {
    ("redis", "5.0"): 9, ("redis", "6.0"): 9, ("redis", "6.2"): 9, ("redis", "7.0"): 10, ("redis", "7.1"): 10,
    ("valkey", "7.2"): 11, ("valkey", "8.0"): 11, ("valkey", "8.1"): 11, ("valkey", "8.2"): 11,
    ("valkey", "9.0"): 80, ("valkey", "9.1"): 80,
}  # fmt: skip


@dataclass(frozen=True)
class Upgrade:
    """One upgrade as asked for; derived names carry a tag of the run, so that a repeated step finds its own."""

    tag: str
    strategy: str
    group: str
    new_group: str
    engine: str
    version: str
    bucket: str
    parameter: str
    node_type: str = ""
    backup: str = ""
    freeze: str = "auto"
    read_only_parameter: str = ""
    application_report: str = ""
    quiet_seconds: float = 10.0
    freeze_limit_ms: int = 5000
    auth_secret: str = ""
    test_failover: bool = True

    @property
    def family(self) -> str:
        """The parameter group family of the new version."""
        return parameter_family(self.engine, self.version)

    @property
    def moves(self) -> bool:
        """True where the application moves to a new group."""
        return self.strategy != "in_place"

    @property
    def keeps_writes(self) -> bool:
        """True where writes made after the backup are captured and replayed."""
        return self.strategy == "blue_green"

    def named(self, what: str) -> str:
        """A name of at most 40 characters for something this run creates: `sessions-backup-3fa9`."""
        what = what.replace(".", "-")  # a family, redis6.x; AWS takes letters, digits and single hyphens
        return f"{self.group[: 38 - len(what) - len(self.tag)].rstrip('-')}-{what}-{self.tag}"


def from_parameters(run_id: str, parameters: dict[str, Any]) -> Upgrade:
    """The upgrade that a runbook's parameters ask for. Raises `RunbookError` for values that cannot be meant."""
    tag = hashlib.sha256(run_id.encode()).hexdigest()[:4]
    asked = {field.name: parameters[field.name] for field in fields(Upgrade) if field.name in parameters}
    group, version, engine = parameters["replication_group"], parameters["engine_version"], parameters["engine"]
    fallback = f"{group[:28].rstrip('-')}-{engine[0]}{version.replace('.', '')}-{tag}"
    upgrade = Upgrade(**{**asked, "tag": tag, "group": group, "version": version, "parameter": parameters["switch_parameter"], "new_group": parameters.get("new_replication_group") or fallback})
    _refuse_nonsense(upgrade)
    return upgrade


def parameter_family(engine: str, version: str) -> str:
    """The parameter group family of an engine version: redis6.x, redis7, valkey7, valkey8, valkey9.

    Source: https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/ParameterGroups.html
    """
    major = version.split(".")[0]
    if engine == "redis" and int(major) < 6:
        return f"redis{'.'.join(version.split('.')[:2])}"
    return "redis6.x" if (engine, major) == ("redis", "6") else f"{engine}{major}"


def minor(version: str) -> str:
    """`6.2.14` -> `6.2`."""
    return ".".join(version.split(".")[:2])


def is_downgrade(engine: str, version: str, new_engine: str, new_version: str) -> bool:
    """True where the new version is older, or cannot read what the old one wrote."""
    if engine == new_engine:
        return _numbers(new_version) < _numbers(version)
    if new_engine == "redis":
        return True
    old_rdb, new_rdb = RDB_VERSIONS.get((engine, minor(version))), RDB_VERSIONS.get((new_engine, minor(new_version)))
    return None not in (old_rdb, new_rdb) and new_rdb < old_rdb


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in minor(version).split("."))


def _refuse_nonsense(upgrade: Upgrade) -> None:
    if upgrade.strategy not in STRATEGIES:
        raise RunbookError(f"strategy is {upgrade.strategy!r}.", f"Choose one of {', '.join(STRATEGIES)}.")
    if upgrade.freeze not in FREEZES:
        raise RunbookError(f"freeze is {upgrade.freeze!r}.", f"Choose one of {', '.join(FREEZES)}.")
    if upgrade.engine not in ("redis", "valkey"):
        raise RunbookError(f"engine is {upgrade.engine!r}.", "Choose redis or valkey.")
    if not re.fullmatch(r"\d+\.\d+(\.\d+)?", upgrade.version):
        raise RunbookError(f"engine_version is {upgrade.version!r}, which is not pinned in full.", "Name major and minor, such as 8.1: with 6.x the minor version would move by itself.")
    if not re.fullmatch(r"[a-z](?!.*--)[a-z0-9-]{0,38}[a-z0-9]|[a-z]", upgrade.new_group):
        raise RunbookError(f"{upgrade.new_group!r} cannot name a replication group.", "1 to 40 lower-case letters, digits and single hyphens, a letter first.")
    if not 100 <= upgrade.freeze_limit_ms <= 50_000:
        raise RunbookError(f"freeze_limit_ms is {upgrade.freeze_limit_ms}.", "Choose 100 to 50000 milliseconds.")
    if upgrade.quiet_seconds < 0:
        raise RunbookError(f"quiet_seconds is {upgrade.quiet_seconds}.", "Choose 0 or more seconds.")
    if upgrade.new_group == upgrade.group:
        raise RunbookError("The new group has the old group's name.", "Leave new_replication_group empty, or choose another name.")

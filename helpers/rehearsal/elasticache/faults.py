"""Let the next creation fail, for rehearsals of what a runbook does then."""

from __future__ import annotations

from collections.abc import Iterable

from helpers.rehearsal.elasticache.nodes import NodeFailed

# What a creation can be made to end as: the group, or (of a seeded one) its member clusters.
CREATE_FAILED = "create-failed"
RESTORE_FAILED = "restore-failed"


class OrderedFailure(NodeFailed):
    """A failure that was ordered; its sentence says so.

    `member_status` is what AWS shows of the member clusters. Source: AWS, CacheCluster
    (CacheClusterStatus): it has restore-failed and incompatible-network, and no create-failed.
    """

    def __init__(self, outcome: str) -> None:
        self.seeded = outcome == RESTORE_FAILED
        self.member_status = RESTORE_FAILED if self.seeded else "incompatible-network"
        why = (
            "the backup could not be loaded"
            if self.seeded
            else "the subnets of the subnet group have not enough free IP addresses"
        )
        super().__init__(f"{why} (ordered for this rehearsal)")


class Faults:
    """What is ordered and has not happened yet. The service's lock is held around every use."""

    def __init__(self) -> None:
        self._ordered: set[str] = set()

    @property
    def ordered(self) -> list[str]:
        """Return the outcomes that wait for a creation."""
        return sorted(self._ordered)

    def order(self, outcomes: Iterable[str]) -> None:
        """Wait for these, and no longer for others. Raises ValueError for an outcome that is not known."""
        wanted = set(outcomes)
        if unknown := wanted - {CREATE_FAILED, RESTORE_FAILED}:
            raise ValueError(f"A creation can end as {CREATE_FAILED} or {RESTORE_FAILED}, not as {min(unknown)}.")
        self._ordered = wanted

    def take(self, *, seeded: bool) -> OrderedFailure | None:
        """Return the failure of a new group, which is then no longer ordered; None where it shall succeed."""
        for outcome in (RESTORE_FAILED, CREATE_FAILED) if seeded else (CREATE_FAILED,):
            if outcome in self._ordered:
                self._ordered.remove(outcome)
                return OrderedFailure(outcome)
        return None

"""The steps of runbooks/efs_mount.ipynb: probe, mount, prove, keep over a reboot; each is taken back by roll back."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from helpers.aws import Aws, RunbookError, effect, planning
from helpers.aws.effects import note, recall
from helpers.efs.hosts import HERE
from helpers.efs.mount import Result, Results, forget, fstab_lines, helper_command, nfs_command, try_mount, unmount
from helpers.efs.mount import keep as keep_in_fstab
from helpers.efs.mount import look as look_at
from helpers.efs.mount import prove as prove_by_writing
from helpers.efs.mount_survey import Job, Survey, job_of, survey, where
from helpers.efs.probe import Probe, probe

__all__ = ["Done", "commands", "from_parameters", "keep", "look", "measured", "mount", "probe_target", "prove", "require_reached", "survey", "where"]

from_parameters = job_of
TRIED, LEFT = "mount tried", "left as it was"
NOTHING_BEHIND = (
    "Nothing listens behind the local cloud's mount target: a real NFS server needs Debian's nfs-ganesha, nfs-ganesha-vfs and stunnel4, "
    "and root. On AWS the run would end here."
)


@dataclass(frozen=True)
class Done:
    """What a step did, a row a host; `word` is the outcome of a row where nothing was done."""

    rows: tuple[Result, ...]
    word: str = "planned"

    def table(self) -> pd.DataFrame:
        """A row a host: outcome, host, what was found."""
        words = {True: "done", False: "failed", None: self.word}
        return pd.DataFrame([(words[row.done], row.host, row.found) for row in self.rows], columns=["outcome", "host", "found"])


def commands(found: Survey) -> pd.DataFrame:
    """The commands that mount, unmount and keep the mount, with the mount helper and without it."""
    target = found.target
    rows = [("mount helper", f"sudo {shlex.join(helper_command(target))}", fstab_lines(target)[0])]
    if target.plain_is_allowed:
        rows.append(("NFS client alone, not encrypted", f"sudo {shlex.join(nfs_command(target))}", fstab_lines(target)[1]))
    return pd.DataFrame(rows, columns=["with", "command", "line of /etc/fstab"])


def probe_target(found: Survey) -> Probe:
    """Probe the file system by its name; where DNS does not know that, its mount target by address, as the mount helper does too."""
    target = found.target
    by_name = probe(target.host, path=found.path)
    if by_name.code != "DNS_UNRESOLVED" or not found.address:
        return by_name
    return probe(found.address, path=found.path, server_name=target.host)


def require_reached(job: Job, found: Survey, probed: Probe) -> str:
    """What the probe means for the mount, in a sentence. Raises `RunbookError` where the mount would fail for the same reason.

    Of hosts it tells nothing certain, as they see another network; nor of a mount with an identity, which the probe has not.
    """
    if probed.ok:
        name = f" DNS here does not know {found.target.host}: its mount target {found.address} was asked."
        return f"{found.path} answers over TLS in {probed.ms:.0f} ms." + name * probed.target.startswith(f"{found.address}:")
    failed = next(row for row in probed.rows if row.ok is False)
    if job.hosts:
        return f"From this machine {probed.code}: {failed.found}. The hosts see the network of their own."
    if probed.code == "POLICY_DENIED" and found.target.needs_tls:
        return f"An anonymous client is refused ({failed.found}); this mount has an identity."
    if job.mode == "rehearse" and probed.code == "TCP_REFUSED":
        return NOTHING_BEHIND
    if planning():
        return f"An apply would end here, {probed.code}: {failed.found}. {failed.remedy}"
    raise RunbookError(f"{probed.code}: {failed.found}. Nothing was mounted.", failed.remedy)


def undo_mount(aws: Aws, job: Job, found: Survey) -> Done:
    """Unmount, by force where the tunnel is dead; a mount that was there before the run stays."""
    left = recall(LEFT) or []
    hosts = [one for one in job.hosts or (HERE,) if one not in left]
    if found.cannot or not hosts:
        return Done((Result(where(job), None, "nothing to unmount"),), "not done")
    return Done(unmount(found.target.mount_point, () if hosts == [HERE] else hosts, ssm=_ssm(aws, job)).rows)


@effect(undo=undo_mount)
def mount(aws: Aws, job: Job, found: Survey) -> Done:
    """Mount on every host, or say why not; what is mounted there already is left as it is, also by roll back."""

    def attach() -> Results:
        again = recall(TRIED)
        note(TRIED, True)
        results = try_mount(found.target, job.hosts, ssm=_ssm(aws, job))
        if not again:
            note(LEFT, [row.host for row in results.rows if row.done and row.found.startswith("mounted already")])
        return results.or_fail()

    return _done(found, attach, "sudo " + shlex.join(helper_command(found.target)))


@effect()
def prove(aws: Aws, job: Job, found: Survey) -> Done:
    """Write a file on every host, read it back past the cache, compare and delete it."""
    return _done(found, lambda: prove_by_writing(found.target, job.hosts, ssm=_ssm(aws, job)), "nothing is mounted, so nothing is proven")


def undo_keep(aws: Aws, job: Job, found: Survey) -> Done:
    """Take the line out of /etc/fstab."""
    if found.cannot or not job.fstab:
        return Done((Result(where(job), None, "no line to take out"),), "not done")
    return Done(forget(found.target, job.hosts, ssm=_ssm(aws, job)).rows)


@effect(undo=undo_keep)
def keep(aws: Aws, job: Job, found: Survey) -> Done:
    """Add the line to /etc/fstab on every host, once."""
    if not job.fstab:
        return Done((Result(where(job), None, "fstab=False: a reboot unmounts it"),), "not asked for")
    return _done(found, lambda: keep_in_fstab(found.target, job.hosts, ssm=_ssm(aws, job)), fstab_lines(found.target)[0])


def look(aws: Aws, job: Job, found: Survey) -> Done:
    """What is mounted on every host and how full it is; it never waits for a dead tunnel."""
    if planning() and not job.hosts:
        return Done((Result(HERE, None, "a plan has mounted nothing"),))
    return _done(found, lambda: look_at(job.mount_point, job.hosts, ssm=_ssm(aws, job)), "nothing is mounted")


def measured(probed: Probe, mounted: Done, proven: Done) -> dict[str, Any]:
    """The run's figures: what the probe says and took, on how many hosts it is mounted and proven."""
    return {
        "probe": probed.code,
        "probe_took_ms": round(probed.ms, 1),
        "hosts_mounted": sum(row.done is True for row in mounted.rows),
        "hosts_proven": sum(row.done is True for row in proven.rows),
    }


def _done(found: Survey, do: Callable[[], Results], instead: str) -> Done:
    """Do it, unless this machine cannot mount: then say so, and what would be done on one that can."""
    if found.cannot:
        return Done((Result(HERE, None, f"{found.cannot}: {instead}"),), "not done")
    return Done(do().rows)


def _ssm(aws: Aws, job: Job) -> Any:
    return aws.client("ssm") if job.hosts else None

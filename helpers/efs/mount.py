"""Mount a file system, prove it, keep it over a reboot, look at it, and unmount it even where its tunnel is dead; here or on EC2 hosts.

Each act is one POSIX shell script, so that this machine and a host behind SSM Run Command do the very same. A script's own findings
are lines that begin with `@@`; what the mount commands say is left as it is.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helpers.aws import RunbookError
from helpers.efs.diagnose import EXPLAINED, Diagnosis, diagnose_mount
from helpers.efs.hosts import HERE, PLANNED, Outcome, Runner, run_here, run_on
from helpers.efs.probe import probe

if TYPE_CHECKING:
    import pandas as pd

# https://docs.aws.amazon.com/efs/latest/ug/mounting-fs-nfs-mount-settings.html
NFS_OPTIONS = "nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport"
FILE_SYSTEM = re.compile(r"fs-([0-9a-f]{8}|[0-9a-f]{17})")
ACCESS_POINT = re.compile(r"fsap-[0-9a-f]{17}")
REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
UNSAFE = re.compile(r"[^\w/.@%+=-]")
MOUNT_S, PROOF_S, PLAIN_UMOUNT_S, FORCED_UMOUNT_S, STATUS_S = 60, 30, 10, 2, 2  # seconds
PROOF_BYTES = 1 << 20
CANNOT, BUSY = 69, 75  # exit codes of the scripts: the host cannot mount at all; umount did not end
UNMOUNTED = "unmounted"
VAGUE = {"TCP_TIMEOUT_SG_OR_ROUTE", "MOUNT_SYSCALL_FAILED", "UNKNOWN"}  # what the probe can say more of
UNTRUSTED = "certificate is untrusted"  # what efs-proxy says of a wrong authority and of a wrong host name alike
HAS_HELPER = "{ [ -x /sbin/mount.efs ] || command -v mount.efs >/dev/null 2>&1; }"


@dataclass(frozen=True)
class Target:
    """What is to be mounted where. `tls` None: with TLS where the mount helper is installed, else plain NFS, which is then said.

    Raises RunbookError for an id, a directory or a mount point that cannot be one.
    """

    file_system: str
    mount_point: str
    region: str
    directory: str = "/"
    access_point: str = ""
    iam: bool = False
    tls: bool | None = None

    def __post_init__(self) -> None:
        _check(FILE_SYSTEM.fullmatch(self.file_system), f"{self.file_system!r} is no file system id", "It is fs- and 8 or 17 hexadecimal digits.")
        _check(REGION.fullmatch(self.region), f"{self.region!r} is no region", "Write it as eu-west-1.")
        for name, path in (("mount point", self.mount_point), ("directory", self.directory)):
            _check_path(name, path)
        _check(not self.access_point or ACCESS_POINT.fullmatch(self.access_point), f"{self.access_point!r} is no access point", "It is fsap- and 17 hexadecimal digits.")
        _check(self.tls is not False or not self.needs_tls, "Access points and IAM need TLS", "Leave `tls` on, or take access point and IAM out.")

    @property
    def needs_tls(self) -> bool:
        """Whether it can be mounted with TLS only."""
        return bool(self.access_point or self.iam)

    @property
    def host(self) -> str:
        """The DNS name of the file system; it resolves to the mount target of the client's zone."""
        suffix = "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"
        return f"{self.file_system}.efs.{self.region}.{suffix}"

    @property
    def helper_options(self) -> str:
        """The options for the mount helper."""
        tls = [] if self.tls is False else ["tls"]
        return ",".join([*tls, *(["iam"] if self.iam else []), *([f"accesspoint={self.access_point}"] if self.access_point else [])])

    @property
    def plain_is_allowed(self) -> bool:
        """Whether it may be mounted without the helper, and so without TLS."""
        return not self.tls and not self.needs_tls


def helper_command(target: Target) -> list[str]:
    """The mount with amazon-efs-utils: `mount -t efs -o tls fs-…:/ /mnt/efs`."""
    options = ["-o", target.helper_options] if target.helper_options else []
    return ["mount", "-t", "efs", *options, f"{target.file_system}:{target.directory}", target.mount_point]


def nfs_command(target: Target) -> list[str]:
    """The mount with the NFS client alone and the options that AWS recommends; nothing is encrypted."""
    return ["mount", "-t", "nfs4", "-o", NFS_OPTIONS, f"{target.host}:{target.directory}", target.mount_point]


def fstab_lines(target: Target) -> tuple[str, str]:
    """The line of /etc/fstab for the mount helper, and the one without it; `_netdev` lets the boot wait for the network.

    https://docs.aws.amazon.com/efs/latest/ug/mount-fs-auto-mount-update-fstab.html
    """
    helper = ",".join(["_netdev", "noresvport", *([target.helper_options] if target.helper_options else [])])
    return (
        f"{target.file_system}:{target.directory} {target.mount_point} efs {helper} 0 0",
        f"{target.host}:{target.directory} {target.mount_point} nfs4 {NFS_OPTIONS},_netdev 0 0",
    )


@dataclass(frozen=True)
class Result:
    """What became of an act on one host: done or not, what was found, and where a mount failed why."""

    host: str
    done: bool | None
    found: str
    diagnosis: Diagnosis | None = None


@dataclass(frozen=True)
class Results:
    """One result a host; `done` is None where a plan only listed the act."""

    rows: tuple[Result, ...]

    def table(self) -> pd.DataFrame:
        """A row a host: outcome, host, found, remedy."""
        import pandas as pd  # costs a second, which a script need not pay

        words = {True: "pass", False: "fail", None: "planned"}
        rows = [(words[row.done], row.host, row.found, row.diagnosis.remedy if row.diagnosis else "") for row in self.rows]
        return pd.DataFrame(rows, columns=["outcome", "host", "found", "remedy"])

    def or_fail(self) -> Results:
        """These results, if every host is done. Raises RunbookError that names the others."""
        failed = [row for row in self.rows if row.done is False]
        if failed:
            remedies = dict.fromkeys(row.diagnosis.remedy for row in failed if row.diagnosis)
            raise RunbookError(" ".join(f"{row.host}: {row.found}" for row in failed), " ".join(remedies))
        return self


def mount(target: Target, hosts: Sequence[str] = (), *, ssm: Any = None, runner: Runner = run_here) -> Results:
    """Mount on the hosts (none: this machine) with the mount helper where it is installed, else with the NFS options.

    Where this machine's mount command ends without a clear word, the probe says more. A host where the same file system is mounted at the mount point already is left as it is. Raises RunbookError where a host
    fails, with the diagnosis, and where it cannot mount at all, with the commands for one that can.
    """
    return try_mount(target, hosts, ssm=ssm, runner=runner).or_fail()


def try_mount(target: Target, hosts: Sequence[str] = (), *, ssm: Any = None, runner: Runner = run_here) -> Results:
    """Mount as `mount` does, but leave it to the caller what to make of hosts that failed."""
    outcomes = run_on(hosts, mount_script(target), what="Mount", seconds=MOUNT_S + 10, ssm=ssm, runner=runner)
    return Results(tuple(_mounted(target, outcome) for outcome in outcomes))


def prove(target: Target, hosts: Sequence[str] = (), *, ssm: Any = None, runner: Runner = run_here) -> Results:
    """Write 1 MiB of random bytes into the mounted directory, read it back past the client's cache, compare, and delete it.

    Raises RunbookError where the mount point is not this mount, cannot be written, or gives other bytes back.
    """
    outcomes = run_on(hosts, proof_script(target, secrets.token_hex(8)), what="Prove", seconds=PROOF_S + 5, ssm=ssm, runner=runner)
    return Results(tuple(_result(one, "the file did not come back as it was written") for one in outcomes)).or_fail()


def keep(target: Target, hosts: Sequence[str] = (), *, ssm: Any = None, runner: Runner = run_here) -> Results:
    """Add the mount to /etc/fstab, once. Raises RunbookError where the file cannot be written."""
    outcomes = run_on(hosts, fstab_script(target), what="AddToFstab", seconds=PROOF_S, ssm=ssm, runner=runner)
    return Results(tuple(_result(one, "/etc/fstab could not be written") for one in outcomes)).or_fail()


def forget(target: Target, hosts: Sequence[str] = (), *, ssm: Any = None, runner: Runner = run_here) -> Results:
    """Take the mount's lines out of /etc/fstab: the undo of `keep`."""
    outcomes = run_on(hosts, fstab_script(target, remove=True), what="RemoveFromFstab", seconds=PROOF_S, ssm=ssm, runner=runner)
    return Results(tuple(_result(one, "/etc/fstab could not be written") for one in outcomes)).or_fail()


def unmount(mount_point: str, hosts: Sequence[str] = (), *, force: bool = False, ssm: Any = None, runner: Runner = run_here) -> Results:
    """Unmount, on a dead tunnel with `umount -f` and then `umount -l`, which takes less than 3 s.

    While the tunnel lives a plain `umount` is used, which writes what is still in memory; it is given up after 10 s.
    `force` skips it, and what is not written yet is lost. Raises RunbookError where it stays mounted.
    """
    _check_path("mount point", mount_point)
    outcomes = run_on(hosts, unmount_script(mount_point, force=force), what="Unmount", seconds=PLAIN_UMOUNT_S + 5, ssm=ssm, runner=runner)
    return Results(tuple(_result(one, "it is still mounted: end what uses it (`fuser -vm` names it), or unmount with force") for one in outcomes)).or_fail()


def look(mount_point: str, hosts: Sequence[str] = (), *, ssm: Any = None, runner: Runner = run_here) -> Results:
    """What is mounted on each host and how full it is, the figures of `df` without its hanging; a dead tunnel is a failed row."""
    _check_path("mount point", mount_point)
    script, seconds = status_script(mount_point), STATUS_S + 2
    outcomes = run_on(hosts, script, what="Look", seconds=seconds, ssm=ssm) if hosts else [runner(script, seconds)]
    return Results(tuple(_result(one, "the mount point cannot be read") for one in outcomes))


def mount_script(target: Target) -> str:
    """The script that mounts: looks first, and says when the host cannot mount at all."""
    helper, plain = shlex.join(helper_command(target)), shlex.join(nfs_command(target))
    otherwise = f"set -- {plain}" if target.plain_is_allowed else 'cannot "amazon-efs-utils is not installed, and this mount needs TLS"'
    return f"""export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
cannot() {{ echo "@@ cannot $1"; exit {CANNOT}; }}
there=$({_source_at(target.mount_point)})
if [ -n "$there" ]; then
  port=$({_port_at(target.mount_point)})
  case $there in
  127.*:{target.directory}) ls -d /var/run/efs/{target.file_system}.*"${{port:-none}}" >/dev/null 2>&1 ;;
  {target.host}:{target.directory}) ;;
  *) false ;;
  esac || cannot "something else is mounted at {target.mount_point} already, $there"
  echo "@@ found mounted already, $there"; exit 0
fi
[ "$(id -u)" = 0 ] || cannot "only root can mount"
grep -qw nfs4 /proc/filesystems || {{ modprobe -q nfsv4 2>/dev/null && grep -qw nfs4 /proc/filesystems; }} || cannot "its kernel has no NFS client"
if {HAS_HELPER}; then set -- {helper}; else {otherwise}; fi
mkdir -p {shlex.quote(target.mount_point)} || exit $?
echo "@@ found $*"
timeout -k 2 {MOUNT_S} "$@"
code=$?
[ $code = 0 ] && exit 0
newest=$(ls -t /var/log/amazon/efs/*{target.file_system}*.log 2>/dev/null | head -n 1)
{{
  [ -z "$newest" ] || tail -n 30 "$newest"
  journalctl -q --no-pager -o cat -t stunnel -t efs-proxy --since -2min 2>/dev/null | tail -n 30
}} | sed 's/^/@@ log /'
exit $code
"""


def proof_script(target: Target, token: str) -> str:
    """The script that writes a file, reads it back past the cache and compares; it refuses a directory that is not mounted."""
    return f"""export LC_ALL=C
[ -n "$({_source_at(target.mount_point)})" ] || {{ echo "@@ found nothing is mounted at {target.mount_point}"; exit 1; }}
timeout -k 2 {PROOF_S} sh -s <<'PROOF'
set -e
made=$(mktemp) back=$(mktemp) there={shlex.quote(target.mount_point)}/.proof-{token}
trap 'rm -f "$made" "$back" "$there"' EXIT
head -c {PROOF_BYTES} /dev/urandom > "$made"
cat "$made" > "$there"
sync
dd if="$there" of="$back" iflag=direct bs=1048576 2>/dev/null || cat "$there" > "$back"
cmp "$made" "$back"
echo "@@ found {PROOF_BYTES} bytes written, read back and equal, sha256 $(sha256sum < "$back" | cut -c 1-16)"
PROOF
"""


def fstab_script(target: Target, *, remove: bool = False) -> str:
    """The script that adds the mount's line to /etc/fstab where it is missing, or takes it out."""
    helper, plain = (shlex.quote(line) for line in fstab_lines(target))
    if remove:
        return f"""left=$(mktemp) || exit $?
grep -vxF -e {helper} -e {plain} /etc/fstab > "$left"
[ $? -le 1 ] && cat "$left" > /etc/fstab && rm -f "$left" && echo "@@ found no line of {target.file_system} at {target.mount_point}"
"""
    return f"""if {HAS_HELPER}; then line={helper}; else line={plain if target.plain_is_allowed else helper}; fi
grep -qxF -e "$line" /etc/fstab || {{
  [ -z "$(tail -c 1 /etc/fstab)" ] || echo >> /etc/fstab
  printf '%s\\n' "$line" >> /etc/fstab
}} || exit $?
echo "@@ found $line"
"""


def unmount_script(mount_point: str, *, force: bool = False) -> str:
    """The script that unmounts: the kernel's tables say whether the tunnel lives, because asking the mount point would hang."""
    place, here = shlex.quote(mount_point.rstrip("/")), _source_at(mount_point)
    return f"""export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
{_tunnel_state(mount_point)}{"dead=yes" if force else ""}
if [ $dead = no ]; then
  timeout -s KILL {PLAIN_UMOUNT_S} umount {place}
else
  timeout -s KILL {FORCED_UMOUNT_S} umount -f {place} || timeout -s KILL 1 umount -l {place}
fi
[ -z "$({here})" ] || exit {BUSY}
[ $dead = no ] && echo "@@ found {UNMOUNTED}" || echo "@@ found {UNMOUNTED} by force: what was not written yet is lost"
"""


def status_script(mount_point: str) -> str:
    """The script that tells what is mounted and how full it is, from the kernel's tables first; it never waits for a dead tunnel."""
    return f"""export LC_ALL=C
{_tunnel_state(mount_point)}[ $dead = no ] || {{ echo "@@ found $source, but its tunnel on port $port is dead: unmount with force, then mount again"; exit 1; }}
figures=$(timeout -s KILL {STATUS_S} stat -f -c '%S %b %f' {shlex.quote(mount_point.rstrip("/"))}) || {{
  echo "@@ found $source, which does not answer in {STATUS_S} s: run the probe"; exit 1
}}
echo "$source $figures" | awk '{{ unit = $2 / 1073741824; printf "@@ found %s, %.2f GiB used of %.0f GiB\\n", $1, ($3 - $4) * unit, $3 * unit }}'
"""


def _tunnel_state(mount_point: str) -> str:
    """The lines that set `source`, `port` and `dead`, and end the script where nothing is mounted."""
    return f"""source=$({_source_at(mount_point)}) port=$({_port_at(mount_point)}) dead=no
[ -n "$source" ] || {{ echo "@@ found nothing is mounted"; exit 0; }}
case $source in
127.*) cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -qi ":$(printf %04X "${{port:-0}}") [0-9A-F]*:0000 0A" || dead=yes ;;
esac
"""


def _source_at(mount_point: str) -> str:
    """The command that prints the source of the NFS mount at a mount point, of the newest where several lie above each other."""
    return _options_at(mount_point) + " | cut -d ' ' -f 1"


def _port_at(mount_point: str) -> str:
    """The command that prints the port of the NFS mount at a mount point."""
    return _options_at(mount_point) + " | sed -n 's/.*[, ]port=\\([0-9]*\\).*/\\1/p'"


def _options_at(mount_point: str) -> str:
    find = '$5 == place { for (i = 7; $i != "-"; i++); if ($(i + 1) ~ /^nfs/) found = $(i + 2) " " $(i + 3) } END { if (found) print found }'
    return f"awk -v place={shlex.quote(mount_point.rstrip('/'))} {shlex.quote(find)} /proc/self/mountinfo"


def _mounted(target: Target, outcome: Outcome) -> Result:
    """The result of the mount script."""
    if outcome.exit_code == 0 and not _said(outcome):
        return _unproven(outcome)
    if outcome.exit_code in (0, PLANNED):
        plain = "; not encrypted: the mount helper is not installed" if "mount -t nfs4" in outcome.stdout else ""
        return Result(outcome.host, outcome.exit_code == 0 or None, _said(outcome) + plain)
    reason = re.search(r"^@@ cannot (.*)", outcome.stdout, re.MULTILINE)
    if reason:
        commands = [helper_command(target)] + ([nfs_command(target)] if target.plain_is_allowed else [])
        shown = " or ".join(f"`sudo {shlex.join(command)}`" for command in commands)
        where = "This machine" if outcome.host == HERE else "The host"
        return Result(outcome.host, False, f"{where} cannot mount: {reason[1]}. Nothing was done.", Diagnosis("CANNOT_MOUNT", reason[1], f"On a host that can, run {shown}."))
    if outcome.status not in ("", "Success", "Failed") and not outcome.stderr:
        return Result(outcome.host, False, f"SSM did not run the command: {outcome.status}.", Diagnosis("HOST_UNREACHABLE", outcome.status, "Check that the host runs and its SSM agent is online."))
    log = re.findall(r"^@@ log (.*)", outcome.stdout, re.MULTILINE)
    why = diagnose_mount(outcome.stderr, outcome.exit_code, log)
    if outcome.host == HERE and ((why.code in VAGUE and not log) or UNTRUSTED in why.evidence.lower()):
        why = _probed(target, "-t efs" in _said(outcome) and target.tls is not False) or why
    return Result(outcome.host, False, f"{why.code}: {why.cause}" + (f" ({why.evidence})" if why.evidence else ""), why)


def _probed(target: Target, tls: bool) -> Diagnosis | None:
    """What the probe finds on the way that the mount took; None where it finds nothing wrong."""
    found = probe(target.host, path=target.directory, tls=tls)
    failed = next((row for row in found.rows if row.ok is False), None)
    return Diagnosis(found.code, EXPLAINED[found.code][0], failed.remedy, f"the probe says: {failed.found}") if failed else None


def _result(outcome: Outcome, failure: str) -> Result:
    """The result of a script whose findings say enough."""
    if outcome.exit_code == 0 and not _said(outcome):
        return _unproven(outcome)
    if outcome.exit_code in (0, PLANNED):
        return Result(outcome.host, outcome.exit_code == 0 or None, _said(outcome))
    said = _said(outcome) or failure
    return Result(outcome.host, False, f"{said}. {outcome.stderr.strip()} {outcome.status if outcome.status not in ('Failed', 'Success') else ''}".strip())


def _unproven(outcome: Outcome) -> Result:
    """A success without the script's own word, as an emulator of Run Command reports it: nothing was done."""
    return Result(outcome.host, False, "success was reported, but nothing of the script came back: it did not run.")


def _said(outcome: Outcome) -> str:
    """What the script found."""
    return "; ".join(re.findall(r"^@@ found (.*)", outcome.stdout, re.MULTILINE))


def _check_path(name: str, path: str) -> None:
    good = path.startswith("/") and not UNSAFE.search(path) and ".." not in path.split("/")
    _check(good and (name != "mount point" or path.strip("/")), f"{path!r} is no {name}", "Give an absolute path of letters, digits and `._-@%+=`, without `..`.")


def _check(good: object, what: str, remedy: str) -> None:
    if not good:
        raise RunbookError(f"{what}.", remedy)

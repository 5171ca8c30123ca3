"""Why a mount of EFS failed: the messages of mount, mount.efs, mount.nfs4, stunnel and the kernel as a cause and a remedy.

The messages are those of amazon-efs-utils 1.x to 3.x, nfs-utils, util-linux, stunnel 5 and efs-proxy; the remedies follow
https://docs.aws.amazon.com/efs/latest/ug/troubleshooting-efs-mounting.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

PROBE = "Run the probe: it tells a blocked port, a refused port and a bad certificate apart, which the mount command cannot."


@dataclass(frozen=True)
class Diagnosis:
    """What went wrong in a mount: a stable code, the cause and the remedy in sentences, and the line that shows it."""

    code: str
    cause: str
    remedy: str
    evidence: str = ""


# code: (cause, remedy)
EXPLAINED = {
    "OK": ("The file system is mounted.", ""),
    "NETDEV_MISSING": (
        "The mount was tried at boot before the network was up.",
        "Add `_netdev` to the options in /etc/fstab, then `mount -a`.",
    ),
    "TLS_HOSTNAME_MISMATCH": (
        "The server's certificate is of another host name than the one that was mounted.",
        "Mount by the file system's own DNS name (fs-….efs.REGION.amazonaws.com), and check that DNS, a CNAME or mounttargetip leads to this very file system.",
    ),
    "TLS_CA_UNTRUSTED": (
        "The server's certificate does not lead to an authority that this host trusts, or is not valid today; of efs-proxy's \"untrusted\" it may also be of another host name.",
        "Update amazon-efs-utils (it brings efs-utils.crt), check `stunnel_cafile` in efs-utils.conf or the `cafile` option, the host's clock, that no proxy opens TLS on the way, and where OCSP is named that its responder is reached on port 80. The probe tells a wrong authority from a wrong host name.",
    ),
    "MOUNT_HELPER_MISSING": (
        "The mount helper mount.efs is not installed on this host.",
        "Install amazon-efs-utils (Amazon Linux: `yum install amazon-efs-utils`; elsewhere built from its source), or mount with the NFS options.",
    ),
    "EFS_PROXY_MISSING": (
        "efs-proxy, which carries the mount over TLS, is not installed.",
        "Install amazon-efs-utils again, or mount with the `stunnel` option where stunnel is installed.",
    ),
    "STUNNEL_MISSING": (
        "stunnel, which carries the mount over TLS, is not installed or too old.",
        "Install or upgrade stunnel (package stunnel, stunnel5 or stunnel4).",
    ),
    "NFS_CLIENT_MISSING": (
        "This host has no NFS client: mount.nfs4 or the kernel's nfs module is missing.",
        "Install nfs-utils (Amazon Linux, Red Hat) or nfs-common (Debian, Ubuntu), and check `modprobe nfsv4`.",
    ),
    "OPTION_CONFLICT": (
        "Options exclude each other, or one lacks another that it needs: accesspoint and iam need tls, awsprofile and awscredsuri need iam.",
        "Correct the options; `-o tls,iam,accesspoint=fsap-…` is the usual set.",
    ),
    "OPTION_MALFORMED": (
        "An option has a value that cannot be read, or is unknown to the mount helper.",
        "Correct the option that the message names: an access point is fsap- and 17 hexadecimal digits, tlsport a number, awscredsuri begins with a slash.",
    ),
    "NO_CREDENTIALS": (
        "The mount with `iam` found no AWS credentials on this host.",
        "Attach an instance profile (or task role) to the host, or name a profile of root's ~/.aws/credentials with `awsprofile`.",
    ),
    "REGION_UNKNOWN": (
        "The mount helper could not find out its region: the instance metadata service did not answer.",
        "Set `region` in /etc/amazon/efs/efs-utils.conf, or let the host reach 169.254.169.254 (hop limit 2 in containers).",
    ),
    "BAD_FSID_OR_CNAME": (
        "What was mounted is no file system id, and no DNS name that leads to one of EFS.",
        "Mount by the file system id (fs- and 8 or 17 hexadecimal digits), or let the CNAME point to fs-….efs.REGION.amazonaws.com.",
    ),
    "DNS_UNRESOLVED": (
        "The file system's DNS name does not resolve here: the id or region is wrong, this zone has no mount target, a new one has not spread yet (90 s), or the VPC's DNS is off.",
        "Check id and region, create a mount target in this host's zone, turn on DNS resolution and DNS hostnames in the VPC; botocore on the host lets the helper fall back to the address.",
    ),
    "REMOTE_PATH_MISSING": (
        "The directory to mount does not exist in the file system.",
        "Mount `/` and make the directory, or correct the path; the probe names the component that is missing.",
    ),
    "POLICY_DENIED": (
        "EFS refused the mount: the file system policy, the IAM identity or the access point does not allow it.",
        "Allow elasticfilesystem:ClientMount to the identity in the file system policy, mount with `tls` (and `iam`) if the policy asks for it, and check that the access point belongs to this file system.",
    ),
    "MOUNTPOINT_MISSING": (
        "The mount point does not exist on this host, or is not a directory.",
        "Make it (`mkdir -p`) and mount again.",
    ),
    "TUNNEL_RESET_RETRY": (
        "The connection was reset while the mount began, as happens when the tunnel or the mount target is just starting.",
        "Mount again; if it happens each time, run the probe and read /var/log/amazon/efs.",
    ),
    "TUNNEL_DEAD": (
        "The local TLS tunnel does not answer: its process ended, and what touches the mount point hangs.",
        "Start amazon-efs-mount-watchdog, which starts the tunnel anew; else `umount -f` the mount point (not df, ls or a plain umount: they hang) and mount again.",
    ),
    "TCP_REFUSED": (
        "The address answers, but nothing accepts connections on the port: it is no mount target, or the port is wrong.",
        "Check the address against the mount targets of the file system, and that the port is 2049.",
    ),
    "TCP_UNREACHABLE": (
        "There is no route to the mount target's address, or nothing has that address.",
        "Check the address against the mount targets of the file system, and the route table of this host's subnet (peering, transit gateway).",
    ),
    "TCP_TIMEOUT_SG_OR_ROUTE": (
        "The mount target does not answer on TCP 2049: a security group, a network ACL or the route drops the packets.",
        f"Allow TCP 2049 in the mount target's security group from the clients' security group. {PROBE}",
    ),
    "NFS_VERSION_UNSUPPORTED": (
        "The NFS client of this host does not support the version or an option that was asked for.",
        "EFS needs NFSv4.0 or 4.1: update the kernel and nfs-utils, or mount with nfsvers=4.0 on an old client.",
    ),
    "NOT_ROOT": ("Only root can mount.", "Run the mount as root (sudo)."),
    "ALREADY_MOUNTED": (
        "Something is mounted at the mount point already.",
        "Look with `findmnt` (df hangs where a tunnel is dead), unmount it, or choose another mount point.",
    ),
    "MOUNT_SYSCALL_FAILED": (
        "The kernel refused the mount and gives no reason; in containers the tunnel or the mount rights are mostly missing.",
        f"Read `dmesg` and /var/log/amazon/efs/mount.log. {PROBE}",
    ),
    "INIT_SYSTEM_UNSUPPORTED": (
        "The mount helper does not know this host's init system, so the watchdog that keeps the tunnel alive cannot be started.",
        "Use systemd or upstart, run amazon-efs-mount-watchdog by hand (in containers as a second process), or update amazon-efs-utils.",
    ),
    "TLS_NOT_SPOKEN": (
        "The port does not speak TLS.",
        "Mount without tls, or check the port: a mount target of EFS speaks TLS and plain NFS on 2049.",
    ),
    "RPC_NOT_NFS": (
        "The port is open, but it is not an NFS server that answers there.",
        "Check host and port: a mount target answers NFS on 2049. Where the port speaks TLS, probe with tls=True.",
    ),
    "NFS_REFUSED": (
        "The NFS server answers, but refused a call that a mount needs.",
        "Try again in a minute (a new mount target, a server in its grace period); else ask AWS support with the status shown.",
    ),
    "UNKNOWN": ("The message is not one that is known.", f"Read `dmesg` and /var/log/amazon/efs/mount.log. {PROBE}"),
}

NETDEV = r"network was not yet available"

# What is tried first is what explains the rest: a bad certificate ends in a timeout, and an init system that is not known
# is no more than a warning beside anything else. `log:` rules look at the tunnel's log only, `err:` at stderr only.
RULES = (
    ("NETDEV_MISSING", NETDEV),
    ("TLS_HOSTNAME_MISMATCH", r"no matching (host ?name|ip address|address)"),
    ("TLS_HOSTNAME_MISMATCH", r"host ?name[ _-]?(verification)?[ _-]?(mismatch|failed)|mismatched? host ?name|ip address mismatch"),
    ("TLS_HOSTNAME_MISMATCH", r"(certificate|host ?name)[^\n]{0,80}(does not|doesn't|not) match(?! the az)|not ?valid ?for ?name|subject checks? failed"),
    ("TLS_HOSTNAME_MISMATCH", r"connection to efs\. error: [^\n]*(host ?name|server name|wrong name)"),
    ("TLS_CA_UNTRUSTED", r"unable to get (local )?issuer|self[- ]signed cert|certificate (is )?(untrusted|not trusted|has expired|is not yet valid)"),
    ("TLS_CA_UNTRUSTED", r"certificate[ _]verif\w*[ _]failed|cert(ificate)?[ :_]pre-verification error|rejected by cert\b|unknown[ _]?(ca\b|issuer)"),
    ("TLS_CA_UNTRUSTED", r"unable to verify the first certificate|untrusted certificate|cert_?untrusted|certificate is invalid|cert_?expired"),
    ("TLS_CA_UNTRUSTED", r"failed to find (the )?(certificate authority file|cafile)|(error|failed)[^\n]{0,20} loading[^\n]{0,20} cafile"),
    ("TLS_CA_UNTRUSTED", r"certificate (has been revoked|failed custom application validation)|ca file to the trust store|unable to (read )?the ca file|ocsp check failed"),
    ("EFS_PROXY_MISSING", r"(failed to locate|no such file or directory:?|cannot find|which'?,) '?\S*efs-proxy|efs-proxy'?:? (command )?not found"),
    ("STUNNEL_MISSING", r"'which', '\S*stunnel|(failed to locate|no such file or directory:) '?\S*stunnel\d?\b(?!-config)|stunnel\d?'?:? (command )?not found"),
    ("STUNNEL_MISSING", r"please (upgrade|install) stunnel|lacks sufficient controls to properly enforce tls"),
    ("MOUNT_HELPER_MISSING", r"unknown file ?system type '?efs\b|mount\.efs'?:? (command )?not found|no such file or directory:? '?\S*mount\.efs"),
    ("NFS_CLIENT_MISSING", r"unknown file ?system type '?nfs4?\b|mount\.nfs4?'?:? (command )?not found|no such file or directory:? '?\S*/mount\.nfs4?\b"),
    ("NFS_CLIENT_MISSING", r"'?\S*/mount\.nfs4?'?: no such file or directory|failed to execute \S*mount\.nfs"),
    ("NFS_CLIENT_MISSING", r"wrong fs type|missing codepage or helper program|need a /sbin/mount\.<?type>? helper|mount\.nfs4?: no such device"),
    ("NOT_ROOT", r"\bmount: (/\S*: )?permission denied|only root can|must be (root|superuser)|not installed setuid"),
    ("OPTION_CONFLICT", r"options? (is|are) required when mounting|mutually exclusive|is incompatible with|multiple version options not permitted"),
    ("OPTION_CONFLICT", r"does not match the az provided|cannot be used (together )?with|conflicting options?"),
    ("BAD_FSID_OR_CNAME", r"file ?system (id|name)\b[^\n]{0,60}(malformed|invalid|not valid)"),
    ("OPTION_MALFORMED", r"\bis malformed|is not an integer|unsupported (nfs4? )?mount option|bad nfs mount parameter|pars(e|ing) error|invalid (value for|option)|not a valid ip address"),
    ("OPTION_MALFORMED", r"bad option(?!, bad superblock)|unknown (nfs )?mount (option|parameter)|excessively long option|usage: mount\.(efs|nfs)|mount: bad usage"),
    ("OPTION_MALFORMED", r"(specified )?port \[?\S+\]? is unavailable|no available port in|failed to locate an available port|valueerror: (not enough|too many) values"),
    ("NO_CREDENTIALS", r"access key id and secret access key are not found|security credentials not found|unable to locate credentials"),
    ("NO_CREDENTIALS", r"retriev\w+ (of )?aws security credentials|error reading token file|profile \S+ could not be found|expired ?token|retrieve iam role"),
    ("REGION_UNKNOWN", r"error retrieving region|cannot retrieve (region|az-id)"),
    ("BAD_FSID_OR_CNAME", r"cname|did not resolve to an efs mount target|dns name format|remote share not in 'host:dir'|not in host:dir format"),
    ("BAD_FSID_OR_CNAME", r"invalid (file ?system (id|name)|server address)|filesystemnotfound|file system '?fs-\w+'? does not exist"),
    ("TCP_TIMEOUT_SG_OR_ROUTE", r"connection to the mount target ip address \S+ time(d )?out"),
    ("TCP_REFUSED", r"connecting to mount target ip address [^\n]*refused"),
    ("TCP_TIMEOUT_SG_OR_ROUTE", r"connecting to mount target ip address [^\n]*timed? ?out"),
    ("TCP_UNREACHABLE", r"(connecting|cannot connect) to (file system )?mount target ip address"),
    ("DNS_UNRESOLVED", r"failed to resolve|dns resolution failed|name or service not known|temporary failure in name resolution|nodename nor servname"),
    ("DNS_UNRESOLVED", r"can't get address for|could not resolve|no address associated with hostname|no remote host resolved|error resolving"),
    ("DNS_UNRESOLVED", r"mount target ip address cannot be found|no (matching )?mount targets?\b|dependency botocore|describemounttargets"),
    ("REMOTE_PATH_MISSING", r"reason given by (the )?server:? (no such file or directory|not a directory)"),
    ("POLICY_DENIED", r"access denied by (the )?server|reason given by (the )?server:? (permission denied|operation not permitted|access denied)"),
    ("MOUNTPOINT_MISSING", r"mount ?point\b[^\n]{0,300}(does not exist|doesn't exist|is not a directory|not found)|special device|no mount point provided"),
    ("MOUNTPOINT_MISSING", r"mount spec [^\n]+ or point [^\n]+ is not a directory"),
    ("REMOTE_PATH_MISSING", r"mount\.nfs4?: (mounting )?\S*:/\S* (failed: )?no such file or directory|mount\.nfs4?: no such file or directory"),
    ("POLICY_DENIED", r"mount\.nfs4?: (mount\(2\): )?(permission denied|operation not permitted|access denied)"),
    ("TUNNEL_DEAD", r"failed to (initialize|start) (the )?(tls )?tunnel|server '?(127\.\d+\.\d+\.\d+|localhost|\[?::1\]?)'? not responding"),
    ("TUNNEL_DEAD", r"amazon-efs-mount-watchdog(\.service)?[^\n]{0,60}(failed|inactive|not running|exited)"),
    ("TUNNEL_DEAD", r"tunnel (process )?[^\n]{0,60}(is not running|died|is dead|has exited)|(stunnel|efs-proxy)[^\n]{0,60}(is not running|died|killed|terminated)"),
    ("TUNNEL_DEAD", r"failed to bind \S+:\d|failed to (obtain tls config|read configuration)|shutting down\. \S*unexpectederror|proxy shutdown failed"),
    ("TCP_REFUSED", r"connection refused|errno 111\b|\(111\)"),
    ("TCP_UNREACHABLE", r"err:no route to host|network is unreachable|host is unreachable"),
    ("TCP_TIMEOUT_SG_OR_ROUTE", r"log:no route to host|network is unreachable|host is unreachable|no more addresses to connect|timeoutconnect exceeded"),
    ("TCP_TIMEOUT_SG_OR_ROUTE", r"log:\btimed? ?out\b"),
    ("TLS_NOT_SPOKEN", r"wrong version number|unsupported protocol(?! family)|error: bad message encountered"),
    ("TUNNEL_RESET_RETRY", r"reset by peer|peer suddenly disconnected|broken pipe|errno 104\b|underlying i/o operation failed|error: connection is closed"),
    ("TUNNEL_DEAD", r"transport endpoint is not connected|stale (nfs )?file handle"),
    ("NFS_VERSION_UNSUPPORTED", r"incorrect mount option was specified|nfs ?(mount )?(version|v)\s?\S* (is )?not supported|version or transport protocol is not supported"),
    ("NFS_VERSION_UNSUPPORTED", r"protocol not supported|nfs4?: invalid argument"),
    ("INIT_SYSTEM_UNSUPPORTED", r"/sbin/(status|start)\b|no such file or directory: '?(systemctl|launchctl)"),
    ("TCP_TIMEOUT_SG_OR_ROUTE", r"\btimed? ?out\b(?! set for)|server \S+ not responding"),
    ("ALREADY_MOUNTED", r"is busy or already mounted|is already mounted"),
    ("MOUNT_SYSCALL_FAILED", r"mount system call failed|unexpected error condition"),
    ("INIT_SYSTEM_UNSUPPORTED", r"unrecognized init system|could not start amazon-efs-mount-watchdog"),
)  # fmt: skip
_COMPILED = [(code, pattern[:3], re.compile(re.sub(r"^(err|log):", "", pattern), re.IGNORECASE)) for code, pattern in RULES]
TIMED_OUT = 124  # what timeout(1) ends with


def diagnose_mount(stderr: str, exit_code: int, tunnel_log: Iterable[str] = ()) -> Diagnosis:
    """Why a mount failed, from what it wrote, its exit code and the lines of its tunnel's log (stunnel or efs-proxy).

    Lines may come in any order, and ids, hosts and ports do not matter. An exit code of 0 is OK, except where the helper gave
    up at boot without the network (NETDEV_MISSING), which it also ends with 0. UNKNOWN where no message is known.
    """
    said = _plain(stderr)
    logged = _plain(tunnel_log if isinstance(tunnel_log, str) else "\n".join(tunnel_log))
    if exit_code == 0 and not re.search(NETDEV, said, re.IGNORECASE):
        return _diagnosis("OK", "")
    for code, only, pattern in _COMPILED:
        for text, skipped in ((said, "log"), (logged, "err")):
            if only != skipped and (found := pattern.search(text)):
                return _diagnosis(code, _line(text, found.start()))
    return _diagnosis("TCP_TIMEOUT_SG_OR_ROUTE" if exit_code == TIMED_OUT else "UNKNOWN", "")


def _diagnosis(code: str, evidence: str) -> Diagnosis:
    return Diagnosis(code, *EXPLAINED[code], evidence)


def _line(text: str, at: int) -> str:
    """The line of `text` around the offset."""
    return text[text.rfind("\n", 0, at) + 1 :].split("\n", 1)[0].strip()


def _plain(text: str) -> str:
    """The text with plain quotes and real line ends: the helper writes what mount.nfs4 said as the repr of bytes."""
    text = text.replace("\\xe2\\x80\\x98", "'").replace("\\xe2\\x80\\x99", "'").replace("\\n", "\n").replace("\\'", "'")
    return text.translate(str.maketrans("‘’“”`\"\u00a0", "'''''' "))

"""A mount's messages become the code that measured and documented cases have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.efs.diagnose import EXPLAINED, RULES, diagnose_mount

MEASURED = json.loads((Path(__file__).parent / "data" / "mount_errors.json").read_text())["measured"]
RECORDED = Path(__file__).parents[2].parent / "shared" / "data" / "recorded" / "mount_errors.json"
WATCHDOG = 'Could not start amazon-efs-mount-watchdog, unrecognized init system "sh"\n'
TIMEOUT = "Mount attempt 1/3 failed due to timeout after 15 sec, wait 0 sec before next attempt."
REJECTED = ["Rejected by CERT at depth=0: CN=*.efs.eu-west-1.amazonaws.com", "SSL_connect: ssl/statem/statem_clnt.c:1889: error:0A000086:SSL routines::certificate verify failed"]


@pytest.mark.parametrize("name", MEASURED)
def test_a_measured_failure_gets_its_diagnosis(name: str) -> None:
    case = MEASURED[name]
    found = diagnose_mount(case["stderr"], case["exit_code"], case["tunnel_log"])
    assert found.code == case["expected_diagnosis"]
    assert found.cause


@pytest.mark.parametrize("name", MEASURED)
def test_the_order_of_the_lines_does_not_matter(name: str) -> None:
    case = MEASURED[name]
    upside_down = "\n".join(reversed(case["stderr"].splitlines()))
    assert diagnose_mount(upside_down, case["exit_code"], case["tunnel_log"][::-1]).code == case["expected_diagnosis"]


def test_every_documented_failure_gets_its_diagnosis() -> None:
    if not RECORDED.exists():
        pytest.skip("the recorded messages are not here")
    cases = json.loads(RECORDED.read_text())["documented"]
    wrong = {case["id"]: got for case in cases if (got := diagnose_mount(case["stderr"], 32).code) != case["expected_diagnosis"]}
    assert wrong == {}


@pytest.mark.parametrize(
    ("code", "stderr", "log"),
    [
        ("TLS_HOSTNAME_MISMATCH", WATCHDOG + TIMEOUT, ["CERT: No matching host name found", *REJECTED]),
        ("TLS_HOSTNAME_MISMATCH", TIMEOUT, ["CERT: Pre-verification error: hostname mismatch", *REJECTED]),
        ("TLS_HOSTNAME_MISMATCH", TIMEOUT, ["CERT: Subject checks failed", *REJECTED]),
        ("TLS_CA_UNTRUSTED", TIMEOUT, ["CERT: Pre-verification error: self-signed certificate in certificate chain", *REJECTED]),
        ("TLS_CA_UNTRUSTED", TIMEOUT, ['CERT: Host name "fs-1.efs" matched with "*.efs"', "CERT: Pre-verification error: certificate has expired", *REJECTED]),
        ("TLS_CA_UNTRUSTED", "Failed to find certificate authority file for verification", []),
        ("TCP_REFUSED", WATCHDOG + TIMEOUT, ["s_connect: connect 10.0.2.2:2049: Connection refused (111)", "No more addresses to connect"]),
        ("TCP_REFUSED", "mount.nfs4: Connection refused", []),
        ("TCP_REFUSED", "mount.nfs4: Connection refused for 127.0.0.1:/ on /mnt/efs", []),
        ("TCP_REFUSED", "Cannot connect to file system mount target ip address 10.0.0.9. \nUnknown error when connecting to mount target IP address 10.0.0.9, [Errno 111] Connection refused.", []),
        ("TCP_TIMEOUT_SG_OR_ROUTE", WATCHDOG + TIMEOUT, ["s_connect: s_poll_wait 10.1.2.3:2049: TIMEOUTconnect exceeded", "No more addresses to connect"]),
        ("TCP_TIMEOUT_SG_OR_ROUTE", WATCHDOG + TIMEOUT.replace("15", "15,5"), []),
        ("TCP_TIMEOUT_SG_OR_ROUTE", "Cannot connect to file system mount target ip address 10.0.0.9. \nConnection to the mount target IP address 10.0.0.9 timeout. Please retry in 5 minutes if the mount target is newly created.", []),
        ("TCP_TIMEOUT_SG_OR_ROUTE", "mount.nfs4: Connection timed out for fs-01234567.efs.eu-west-1.amazonaws.com:/ on /data", []),
        ("TCP_TIMEOUT_SG_OR_ROUTE", "nfs: server 10.4.5.6 not responding, timed out", []),
        ("TCP_UNREACHABLE", "mount.nfs4: No route to host", []),
        ("TCP_UNREACHABLE", "mount.nfs4: Network is unreachable", []),
        ("TUNNEL_DEAD", "nfs: server 127.0.0.1 not responding, still trying", []),
        ("TUNNEL_DEAD", "Failed to initialize tunnel for fs-0123456789abcdef0, please check mount.log for the failure reason.", []),
        ("TUNNEL_RESET_RETRY", WATCHDOG + "Mount attempt 1/3 failed due to b'mount.nfs4: Connection reset by peer', wait 1 sec before next attempt.", []),
        ("DNS_UNRESOLVED", 'Failed to resolve "fs-1.efs.eu-west-1.amazonaws.com" - check that your file system ID is correct.\nNo matching mount target in the az eu-west-1c.', []),
        ("DNS_UNRESOLVED", "Failed to import necessary dependency botocore, please install botocore first.", []),
        ("DNS_UNRESOLVED", "An error occurred (AccessDeniedException) when calling the DescribeMountTargets operation: not authorized", []),
        ("DNS_UNRESOLVED", "mount.nfs4: Failed to resolve server fs-1.efs.eu-west-1.amazonaws.com: Temporary failure in name resolution", []),
        ("BAD_FSID_OR_CNAME", 'Failed to resolve "files.example.com" - check that the specified DNS name is a CNAME record resolving to a valid EFS DNS name', []),
        ("BAD_FSID_OR_CNAME", 'The specified CNAME "files.example.com" did not resolve to a valid DNS name for an EFS mount target. Please refer to the EFS documentation', []),
        ("BAD_FSID_OR_CNAME", 'The specified domain name "fs-xyz" did not resolve to an EFS mount target', []),
        ("MOUNTPOINT_MISSING", "mount: /mnt/none: mount point does not exist.", []),
        ("MOUNTPOINT_MISSING", WATCHDOG + "b'mount.nfs4: mount point /mnt/none does not exist'", []),
        ("MOUNTPOINT_MISSING", "mount.nfs4: mount point /etc/fstab is not a directory", []),
        ("REMOTE_PATH_MISSING", "mount.nfs4: mounting fs-1.efs.eu-west-1.amazonaws.com:/a/b failed, reason given by server: No such file or directory", []),
        ("POLICY_DENIED", WATCHDOG + "b'mount.nfs4: access denied by server while mounting 127.0.0.1:/'", []),
        ("POLICY_DENIED", "mount.nfs4: mounting 127.0.0.1:/ failed, reason given by server: Permission denied", []),
        ("OPTION_CONFLICT", 'The "port" and "tls" options are mutually exclusive', []),
        ("OPTION_CONFLICT", 'The "iam" option is required when mounting with named profile option, "awsprofile"', []),
        ("OPTION_CONFLICT", "mounttargetip option is incompatible with crossaccount option.", []),
        ("OPTION_CONFLICT", 'The hostname "use1-az1.fs-1.efs" resolved by the specified domain name "x" does not match the az provided in the mount options, expected = a, given = b', []),
        ("OPTION_MALFORMED", "Access Point ID fsap-12 is malformed", []),
        ("OPTION_MALFORMED", "tlsport option [20k] is not an integer", []),
        ("OPTION_MALFORMED", 'Unsupported mount options detected: "capath"', []),
        ("OPTION_MALFORMED", "mount.nfs4: parsing error on 'vers=' option", []),
        ("OPTION_MALFORMED", "mount: invalid option -- 'q'", []),
        ("NO_CREDENTIALS", "AWS security credentials not found in /root/.aws/credentials or /root/.aws/config under named profile [ops]", []),
        ("NO_CREDENTIALS", "Unsuccessful retrieval of AWS security credentials at http://169.254.170.2/v2/x.", []),
        ("STUNNEL_MISSING", "Failed to locate stunnel5 in /sbin:/usr/sbin - Please install it by following the instructions at https://docs.aws.amazon.com/", []),
        ("EFS_PROXY_MISSING", "FileNotFoundError: [Errno 2] No such file or directory: '/usr/bin/efs-proxy'", []),
        ("NFS_CLIENT_MISSING", "FileNotFoundError: [Errno 2] No such file or directory: '/sbin/mount.nfs4'", []),
        ("NFS_CLIENT_MISSING", "mount: /mnt: bad option; for several filesystems (e.g. nfs, cifs) you might need a /sbin/mount.<type> helper program.", []),
        ("NFS_CLIENT_MISSING", "mount: unknown filesystem type 'nfs4'", []),
        ("MOUNT_HELPER_MISSING", "mount: unknown filesystem type ‘efs’", []),
        ("NFS_VERSION_UNSUPPORTED", "mount.nfs4: requested NFS version or transport protocol is not supported for /mnt/efs", []),
        ("NFS_VERSION_UNSUPPORTED", "mount.nfs4: Protocol not supported", []),
        ("MOUNT_SYSCALL_FAILED", "b'mount.nfs4: mount system call failed for /mnt/efs'", []),
        ("INIT_SYSTEM_UNSUPPORTED", 'Could not start amazon-efs-mount-watchdog, unrecognized init system "tini"', []),
        ("BAD_FSID_OR_CNAME", 'The file system ID "fs-12" is malformed', []),
        ("OPTION_MALFORMED", "mount: bad usage\nTry 'mount --help' for more information.", []),
        ("NO_CREDENTIALS", "The config profile (ops) could not be found", []),
        ("NOT_ROOT", "mount: /mnt/efs: permission denied.\n       dmesg(1) may have more information after failed mount system call.", []),
        ("POLICY_DENIED", "mount.nfs4: timeout set for Tue Nov 24 03:00:00 2026\nmount.nfs4: mount(2): Permission denied", []),
        ("MOUNT_SYSCALL_FAILED", "mount.nfs4: timeout set for Tue Nov 24 03:00:00 2026\nmount.nfs4: mount system call failed", []),
        ("ALREADY_MOUNTED", "mount.nfs4: /mnt/efs is busy or already mounted or sharecache fail", []),
        ("TUNNEL_DEAD", "Job for amazon-efs-mount-watchdog.service failed because the control process exited with error code.", []),
        ("TLS_NOT_SPOKEN", TIMEOUT, ["SSL_connect: ssl/record/ssl3_record.c:354: error:0A00010B:SSL routines::wrong version number"]),
        ("UNKNOWN", "something nobody has seen", []),
    ],
)  # fmt: skip
def test_a_message_of_the_mount_programs_gets_its_diagnosis(code: str, stderr: str, log: list[str]) -> None:
    assert diagnose_mount(stderr, 32, log).code == code


PROXY = "2026-11-24T10:00:00.123Z INFO efs_proxy::controller Accepted new connection 127.0.0.1:900, ProxyIdentifier { uuid: 1, incarnation: 1 }"
FIRST = "2026-11-24T10:00:15.456Z WARN efs_proxy::controller Failed to establish an initial connection to EFS. Error: "
HARMLESS = [
    'INFO efs_proxy Running with configuration: ProxyConfig { fips: false, debug: "info", nested_config: EfsConfig { mount_target_addr: "fs-01234567.efs.eu-west-1.amazonaws.com:2049" } }',
    "DEBUG efs_proxy::controller Connection to nfs client was closed before any data was sent to the proxy. This is expected. Restarting controller",
    "WARN efs_proxy::connections EFS RPC call errored while establishing initial connection. Error rpc accept_stat: PROG_UNAVAIL",
    "TIMEOUTbusy = 20\nTIMEOUTidle = 70",
]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("TLS_CA_UNTRUSTED", "Certificate is untrusted"),
        ("TLS_CA_UNTRUSTED", "Certificate has expired"),
        ("TLS_HOSTNAME_MISMATCH", "Certificate is for another hostname"),
        ("TCP_REFUSED", "Connection refused (os error 111)"),
        ("TCP_TIMEOUT_SG_OR_ROUTE", "Connect attempt failed - Timeout"),
        ("TCP_TIMEOUT_SG_OR_ROUTE", "Connection timed out (os error 110)"),
        ("DNS_UNRESOLVED", "failed to lookup address information: Name or service not known"),
        ("TLS_NOT_SPOKEN", "Bad message encountered"),
        ("TUNNEL_RESET_RETRY", "underlying I/O operation failed, check system errno"),
    ],
)
def test_what_efs_proxy_logs_tells_hanging_mounts_apart(code: str, error: str) -> None:
    log = [PROXY, *HARMLESS, FIRST + error]
    assert diagnose_mount(WATCHDOG + TIMEOUT, 124, log).code == code
    assert diagnose_mount(WATCHDOG + TIMEOUT, 124, log[::-1]).evidence.endswith(error)


def test_an_access_denied_is_told_past_what_efs_proxy_logs() -> None:
    said = WATCHDOG + "b'mount.nfs4: access denied by server while mounting 127.0.0.1:/'"
    assert diagnose_mount(said, 32, [PROXY, *HARMLESS, "INFO efs_proxy::connections Attempt to scale up failed: Connect attempt failed - Timeout"]).code == "POLICY_DENIED"


def test_harmless_lines_of_a_tunnel_explain_nothing() -> None:
    assert diagnose_mount("something nobody has seen", 32, [PROXY, *HARMLESS]).code == "UNKNOWN"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("TUNNEL_DEAD", "thread 'main' panicked at src/controller.rs:91:13:\nFailed to bind 127.0.0.1:20049"),
        ("TLS_CA_UNTRUSTED", "Failed to obtain TLS config:Error in TlsConfig::new. Unable to the CA File. Make sure it does not have any comments"),
    ],
)
def test_an_efs_proxy_that_does_not_start_is_told(code: str, said: str) -> None:
    assert diagnose_mount("Failed to initialize tunnel for fs-01234567", 1, [said]).code == code


def test_a_helper_that_gave_up_at_boot_is_told_though_it_ends_with_zero() -> None:
    said = 'Failed to mount fs-01234567 because the network was not yet available, add "_netdev" to your mount options'
    assert diagnose_mount(said, 0).code == "NETDEV_MISSING"
    assert "_netdev" in diagnose_mount(said, 0).remedy


def test_a_hanging_mount_without_a_word_counts_as_a_timeout() -> None:
    assert diagnose_mount("", 124).code == "TCP_TIMEOUT_SG_OR_ROUTE"


def test_the_line_that_shows_it_is_quoted() -> None:
    assert diagnose_mount(WATCHDOG + "b'mount.nfs4: access denied by server while mounting 127.0.0.1:/'", 32).evidence.endswith("127.0.0.1:/'")


def test_the_tunnels_log_may_be_one_string() -> None:
    assert diagnose_mount(TIMEOUT, 124, "\n".join(REJECTED)).code == "TLS_CA_UNTRUSTED"


def test_every_failure_has_a_cause_and_a_remedy() -> None:
    assert {code for code, _ in RULES} <= set(EXPLAINED)
    assert all(cause and (remedy or code == "OK") for code, (cause, remedy) in EXPLAINED.items())

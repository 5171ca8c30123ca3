"""The endpoint in a DNS record, `route53:ZONE_ID/record.name`: one batch that deletes the old set and creates the new.

Route 53 makes all changes of a batch or none, and deletes a record set only where every value of it is the one it
has: a true compare-and-set. A record holds no port, so the old and the new endpoint must have the same.
Source: https://docs.aws.amazon.com/Route53/latest/APIReference/API_ChangeResourceRecordSets.html
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from typing import Any

from helpers.aws import UNKNOWN, Aws, Check, RunbookError, wait
from helpers.aws.planned import CHANGE, CREATE, PlannedWorld, rule
from helpers.elasticache.adapters.setting import Setting, await_seen, changed_meanwhile, split_endpoint

SERVICE, NOUN = "route53", "DNS record"
TYPES, SIMPLE = ("CNAME", "A"), {"Name", "Type", "TTL", "ResourceRecords"}
IN_SYNC_WITHIN = 120.0  # seconds; "generally within 60 seconds"
SLOWEST = IN_SYNC_WITHIN + 10  # seconds
LONG_TTL = 60  # seconds
HANDSHAKE_TIMEOUT = 5.0  # seconds


def read(aws: Aws, where: str) -> Setting:
    """The host that the record points to; `version` is what the record has beside it: type, TTL, and the value as it is written.

    Raises `RunbookError` for a record that is not simple.
    """
    found = _record(aws, where)
    if found is None:
        return Setting(where, "", "")
    host = found["ResourceRecords"][0]["Value"]
    return Setting(where, host.rstrip("."), f"{found['Type']} {found['TTL']} {host}")


def put(aws: Aws, before: Setting, expected: str, value: str) -> None:
    """Point the record at the host of `value`, and wait until all of Route 53's servers know it.

    Raises `RunbookError` where the record is no longer exactly as `before` was read, or where the ports differ.
    """
    refused = same_port(before.where, expected, value)
    if refused and refused.outcome == "fail":
        raise RunbookError(refused.found + ".", refused.remedy)
    zone, name = _parts(before.where)
    client, (kind, ttl, host) = aws.client(SERVICE), str(before.version).split(" ", 2)
    new = split_endpoint(value)[0]
    if UNKNOWN not in new and (kind == "A") is not _is_address(new):
        raise RunbookError(f"{before.where} is of type {kind}, which cannot hold {new}.", "Make it a CNAME for a host name, an A record for an address.")
    changes = [("DELETE", host), ("CREATE", new + "." * host.endswith("."))]
    batch = [{"Action": action, "ResourceRecordSet": {"Name": name, "Type": kind, "TTL": int(ttl), "ResourceRecords": [{"Value": to}]}} for action, to in changes]
    try:
        change = client.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Comment": "the application's Redis endpoint", "Changes": batch})["ChangeInfo"]["Id"]
    except client.exceptions.InvalidChangeBatch as error:
        now = read(aws, before.where)
        if (now.value, now.version) != (new, f"{kind} {ttl} {changes[1][1]}"):
            raise changed_meanwhile(before.where, now.value, before.value) from error
        return  # changed by this very request, which was sent twice
    wait(f"{name} known to all of Route 53", lambda: client.get_change(Id=change)["ChangeInfo"]["Status"], until=("INSYNC",), timeout=IN_SYNC_WITHIN)
    await_seen(aws, before, new, read)


def same_port(where: str, old: str, new: str) -> Check | None:
    """Whether two endpoints can stand behind one record, which carries no port; None for other stores."""
    if not where.startswith(f"{SERVICE}:"):
        return None
    name, (_, was), (_, will) = "the new group has the old group's port", split_endpoint(old), split_endpoint(new)
    if was != will and UNKNOWN not in (was, will):
        return Check(name, "fail", f"a DNS record carries no port: the old endpoint has {was}, the new one {will}", f"Create the new group with port {was}.")
    return Check(name, "pass", f"{was}, as the old group's")


def checks(aws: Aws, where: str) -> list[Check]:
    """How long clients stay on the old name, and who sees the zone."""
    zone = aws.client(SERVICE).get_hosted_zone(Id=_parts(where)[0])
    seen, name = ", ".join(one["VPCId"] for one in zone.get("VPCs", [])), "the application sees the record"
    if zone["HostedZone"]["Config"].get("PrivateZone"):
        told = Check(name, "pass", f"a private zone, seen in {seen} and nowhere else")
    else:
        told = Check(name, "pass", "a public zone, seen everywhere; a private zone of the same name would hide it in its VPCs")
    return [_ttl(_record(aws, where)["TTL"]), told]


def certificate_check(where: str, endpoint: str, *, planned: bool) -> Check:
    """Whether TLS clients that verify accept the record's own name, by the certificate that `endpoint` shows."""
    name, record, (host, port) = "TLS clients accept the record's name", _parts(where)[1], split_endpoint(endpoint)
    try:
        names = certificate_names(host, int(port))
    except OSError as error:
        return Check(name, "warn" if planned else "fail", f"{endpoint} shows no certificate: {error}", "Run the runbook from inside the VPC, and allow this host in the group's security group.")
    told = f"the certificate of {endpoint} is for {', '.join(names)}"
    if covers(names, record):
        return Check(name, "pass", f"{told}: {record} is one of them")
    own = f"{host} is covered, {record} is not" if covers(names, host) else f"neither {host} nor {record} is covered"
    return Check(name, "warn", f"{told}: {own}, so clients that verify host names refuse {record}", "Give the application the endpoint itself (a parameter or a secret), or see that it verifies against the endpoint's own name.")


def certificate_names(host: str, port: int) -> tuple[str, ...]:
    """The names (DNS and IP) in the certificate of a server, after a TLS handshake that checks who issued it.

    Raises OSError (ssl.SSLError among them) where there is no handshake.
    """
    context = ssl.create_default_context()
    context.check_hostname = False  # the names are what is asked for
    with socket.create_connection((host, port), timeout=HANDSHAKE_TIMEOUT) as plain, context.wrap_socket(plain, server_hostname=host) as secured:
        return tuple(value for kind, value in secured.getpeercert().get("subjectAltName", ()) if kind in ("DNS", "IP Address"))


def covers(names: tuple[str, ...], host: str) -> bool:
    """Whether a client that verifies accepts `host`: an equal name, or a wildcard for its first label.

    Source: https://www.rfc-editor.org/rfc/rfc9525#section-6.3
    """
    host = host.rstrip(".").lower()
    rest = host.partition(".")[2]
    return any(name.lower() == host or (name.startswith("*.") and rest and name[2:].lower() == rest) for name in names)


def _ttl(ttl: int) -> Check:
    name = "clients follow the record soon"
    if ttl > LONG_TTL:
        return Check(name, "warn", f"its TTL is {ttl} s: so long clients may stay on the old group, which refuses writes", f"Lower it to {LONG_TTL} s or less, and wait {ttl} s before the switch.")
    return Check(name, "pass", f"its TTL is {ttl} s")


def _parts(where: str) -> tuple[str, str]:
    zone, _, name = where.partition(":")[2].partition("/")
    return zone, name


def _record(aws: Aws, where: str) -> dict[str, Any] | None:
    """The record set; None where there is none. Raises `RunbookError` where it is not simple."""
    client, (zone, name) = aws.client(SERVICE), _parts(where)
    try:
        listed = client.list_resource_record_sets(HostedZoneId=zone, StartRecordName=name)["ResourceRecordSets"]
    except client.exceptions.NoSuchHostedZone:
        return None
    found = [one for one in listed if one["Name"].rstrip(".").lower() == name.rstrip(".").lower() and one["Type"] in TYPES]
    if not found:
        return None
    extra = sorted({member for one in found for member in one} - SIMPLE)
    if extra or len(found) > 1 or len(found[0]["ResourceRecords"]) > 1:
        why = f"it has {', '.join(extra)}" if extra else "it has several values"
        raise RunbookError(f"{where} is no simple record: {why}.", "Only a CNAME or A record with one value and no routing policy can be switched.")
    return found[0]


def _is_address(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


@rule(SERVICE, "ChangeResourceRecordSets")
def _planned_change(world: PlannedWorld, asked: dict[str, Any]) -> None:
    """The records as the batch leaves them, and the change that is asked for its status."""
    for change in asked["ChangeBatch"]["Changes"]:
        record = change["ResourceRecordSet"]
        if change["Action"] != "DELETE":
            identity = {"Name": f"{record['Name'].rstrip('.')}.", "Type": record["Type"]}
            world.put(SERVICE, "ResourceRecordSet", identity, CHANGE, {name: value for name, value in record.items() if name not in identity})
    world.put(SERVICE, "Change", {"Id": UNKNOWN}, CREATE, {})

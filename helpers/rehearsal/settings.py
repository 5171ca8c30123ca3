"""Seed where the application finds its endpoint: an SSM parameter, a secret, AppConfig or a private hosted zone.

The forms are those of `helpers.rehearsal.endpoint_source`. What is there already, such as other keys of a
secret, stays.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import uuid
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from helpers.rehearsal.endpoint_source import (
    ZONE_ID,
    Configuration,
    Record,
    Secret,
    Source,
    SsmParameter,
    find_record,
    find_zone,
    source,
)

# What a DNS record leads to listens at this port: it says none itself.
PORT = 6379
TTL_S = 1
# What else an application keeps beside its endpoint.
OTHERS = {"region": "ap-northeast-1", "pool": "20"}
STRATEGY = "at-once"

Client = Callable[[str], Any]


class SettingRefused(ValueError):
    """The setting cannot be made in a local cloud; the message says why and what to do."""


def port_of(text: str) -> int:
    """Return the port that a group must have whose endpoint is kept in this form; 0 for any."""
    return PORT if text.startswith("route53:") else 0


def read(client: Client, text: str) -> str:
    """Return the endpoint that a setting holds, "" where there is none; `client` makes a boto3 client of a service."""
    found = _source(client, text)
    parameters = {}
    if found.parameters:
        listed = client("ssm").get_parameters(Names=list(found.parameters), WithDecryption=True)["Parameters"]
        parameters = {one["Name"]: one["Value"] for one in listed}
    return found.endpoint(parameters, urgent=True)


def write(client: Client, text: str, endpoint: str) -> None:
    """Make a setting, with what it lives in, and let it hold an endpoint. Raises `SettingRefused`."""
    match _source(client, text):
        case SsmParameter():
            client("ssm").put_parameter(
                Name=text, Value=endpoint, Type="String", Overwrite=True, Description="Where the application finds Redis"
            )
        case Secret():
            _write_secret(client("secretsmanager"), *_split(text), endpoint)
        case Configuration():
            _deploy(client("appconfig"), *_split(text), endpoint)
        case Record():
            _write_record(client, text, endpoint)


def remove(client: Client, text: str) -> None:
    """Let a setting hold no endpoint any more."""
    match _source(client, text):
        case SsmParameter():
            client("ssm").delete_parameter(Name=text)
        case Record():
            zone, name = _zone_and_name(text)
            record = find_record(client("route53"), zone, name)
            _change(client("route53"), find_zone(client("route53"), zone), "DELETE", record)
        case _:
            write(client, text, "")


def _source(client: Client, text: str) -> Source:
    try:
        return source(text, client, port_of(text))
    except ValueError as error:
        raise SettingRefused(str(error)) from error


def _split(text: str) -> tuple[str, str]:
    place, _, key = text.partition(":")[2].partition("#")
    return place, key


def _document(before: str, key: str, endpoint: str) -> str:
    """Return JSON with the endpoint under a key and all else as before; the endpoint itself without a key."""
    return json.dumps({**(json.loads(before) if before.strip() else OTHERS), key: endpoint}) if key else endpoint


def _write_secret(client: Any, name: str, key: str, endpoint: str) -> None:
    try:
        before = client.get_secret_value(SecretId=name)["SecretString"]
    except client.exceptions.ResourceNotFoundException:
        client.create_secret(Name=name, SecretString=_document("", key, endpoint))
    else:
        # A secret holds at least one character.
        client.put_secret_value(SecretId=name, SecretString=_document(before, key, endpoint) or " ")


def _deploy(client: Any, place: str, key: str, endpoint: str) -> None:
    """Deploy the configuration, at once. Source: AWS, AppConfig user guide, "Deploying feature flags and configuration data"."""
    application, environment, profile = place.split("/")
    application = _found_or_made(client.list_applications, client.create_application, application)
    there = {"ApplicationId": application}
    environment = _found_or_made(client.list_environments, client.create_environment, environment, **there)
    profile = _found_or_made(
        client.list_configuration_profiles, client.create_configuration_profile, profile, LocationUri="hosted", **there
    )
    there["ConfigurationProfileId"] = profile
    versions = client.list_hosted_configuration_versions(**there)["Items"]
    newest = max((one["VersionNumber"] for one in versions), default=0)
    before = client.get_hosted_configuration_version(VersionNumber=newest, **there)["Content"].read() if newest else b""
    content = _document(before.decode(), key, endpoint) or " "
    kind = "application/json" if key else "text/plain"
    made = client.create_hosted_configuration_version(Content=content.encode(), ContentType=kind, **there)
    at_once = {"DeploymentDurationInMinutes": 0, "GrowthFactor": 100.0, "FinalBakeTimeInMinutes": 0, "ReplicateTo": "NONE"}
    strategy = _found_or_made(client.list_deployment_strategies, client.create_deployment_strategy, STRATEGY, **at_once)
    _end_deployments(client, application, environment)
    client.start_deployment(
        EnvironmentId=environment, DeploymentStrategyId=strategy, ConfigurationVersion=str(made["VersionNumber"]), **there
    )


def _found_or_made(listing: Callable[..., Any], making: Callable[..., Any], name: str, **options: Any) -> str:
    """Return the id of what has this name or id, made where there is none."""
    where = {"ApplicationId": options["ApplicationId"]} if "ApplicationId" in options else {}
    for one in listing(**where)["Items"]:
        if name in (one["Name"], one["Id"]):
            return str(one["Id"])
    return str(making(Name=name, **options)["Id"])


def _end_deployments(client: Any, application: str, environment: str) -> None:
    """End a deployment that an earlier run left baking: an environment takes one at a time."""
    there = {"ApplicationId": application, "EnvironmentId": environment}
    for one in client.list_deployments(**there)["Items"]:
        if one["State"] in ("DEPLOYING", "BAKING"):
            with contextlib.suppress(ClientError):
                client.stop_deployment(DeploymentNumber=one["DeploymentNumber"], **there)


def _write_record(client: Client, text: str, endpoint: str) -> None:
    zone, name = _zone_and_name(text)
    zone_id = _ensure_zone(client, zone, name)
    host, _, port = endpoint.rpartition(":")
    if int(port) != PORT:
        raise SettingRefused(f"A DNS record leads to port {PORT}, and the group has {port}: create it with Port={PORT}.")
    record = {"Name": name, "Type": _type_of(host), "TTL": TTL_S, "ResourceRecords": [{"Value": host}]}
    _change(client("route53"), zone_id, "UPSERT", record)


def _ensure_zone(client: Client, zone: str, name: str) -> str:
    """Return the id of a private hosted zone of this id or name, made for the record's domain where there is none."""
    route53 = client("route53")
    chosen = bool(ZONE_ID.fullmatch(zone))
    with contextlib.suppress(route53.exceptions.NoSuchHostedZone):
        if found := find_zone(route53, zone):
            route53.get_hosted_zone(Id=found)
            return found
    made = route53.create_hosted_zone(
        Name=name.partition(".")[2] if chosen else zone,
        VPC={"VPCRegion": client("ec2").meta.region_name, "VPCId": client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]},
        # The local cloud takes the id from here, see `helpers.rehearsal.hosted_zones`.
        CallerReference=zone if chosen else uuid.uuid4().hex,
        HostedZoneConfig={"Comment": "Where the application finds Redis", "PrivateZone": True},
    )
    return str(made["HostedZone"]["Id"]).rpartition("/")[2]


def _change(route53: Any, zone_id: str, action: str, record: dict[str, Any]) -> None:
    change = {"Action": action, "ResourceRecordSet": record}
    route53.change_resource_record_sets(HostedZoneId=zone_id, ChangeBatch={"Changes": [change]})


def _zone_and_name(text: str) -> tuple[str, str]:
    zone, _, name = text.partition(":")[2].removeprefix("/hostedzone/").partition("/")
    return zone, name.rstrip(".").lower()


def _type_of(host: str) -> str:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "CNAME"
    return "A"

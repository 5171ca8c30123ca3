"""Where the application finds its endpoint: an SSM parameter, a secret, an AppConfig profile or a Route 53 record.

    /name                                                    an SSM parameter that holds host:port
    secretsmanager:ID or secretsmanager:ID#key                                            a secret
    appconfig:APPLICATION/ENVIRONMENT/PROFILE or appconfig:APPLICATION/ENVIRONMENT/PROFILE#key  the deployed configuration
    route53:ZONE/name                         a record CNAME or A; the port is known beforehand

A secret or configuration is host:port, or JSON that has it under the key, or without one under host and port.
ZONE is a hosted zone's id or, where no id has that form, its name. Each source reads as often as its
service and its kind of client do: a parameter and a secret at every look, a configuration when the service
says that it may be asked again, a record when its TTL is over.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import ClientError

# The least that AppConfig takes. Source: AWS, StartConfigurationSession, RequiredMinimumPollIntervalInSeconds.
POLL_INTERVAL_S = 15
# How soon what was absent is looked for again.
ABSENT_EVERY_S = 0.25
ABSENT = ("ResourceNotFoundException", "NoSuchHostedZone")
ZONE_ID = re.compile(r"Z[A-Z0-9]{5,}")

Client = Callable[[str], Any]


class SsmParameter:
    """An SSM parameter; the application reads it together with its other parameters."""

    def __init__(self, name: str) -> None:
        self.parameters = (name,)

    def endpoint(self, parameters: Mapping[str, str], *, urgent: bool) -> str:
        """Return the endpoint, "host:port", "" where there is none; `parameters` are the SSM parameters just read.

        `urgent` says that writes stand still, or may go on: whoever may look earlier than usual then does.
        """
        return parameters.get(self.parameters[0], "").strip()


class Secret:
    """A Secrets Manager secret. Source: AWS, GetSecretValue."""

    parameters: tuple[str, ...] = ()

    def __init__(self, place: str, client: Client) -> None:
        self._id, _, self._key = place.partition("#")
        self._client = client

    def endpoint(self, parameters: Mapping[str, str], *, urgent: bool) -> str:
        """Return the endpoint, as `SsmParameter.endpoint`."""
        try:
            text = self._client("secretsmanager").get_secret_value(SecretId=self._id)["SecretString"]
        except ClientError as error:
            return _absent(error)
        return _value(text, self._key)


class Configuration:
    """A configuration deployed by AppConfig, read as its agent does: in a session, no sooner than the service allows.

    Where it is urgent it begins a new session, which may be read at once.
    Source: AWS, AppConfig user guide, "Retrieving configuration data by directly calling APIs".
    """

    parameters: tuple[str, ...] = ()

    def __init__(self, place: str, client: Client) -> None:
        profile, _, self._key = place.partition("#")
        self._application, self._environment, self._profile = profile.split("/")
        self._client = client
        self._token = ""
        self._next = float("-inf")
        self._value = ""

    def endpoint(self, parameters: Mapping[str, str], *, urgent: bool) -> str:
        """Return the endpoint, as `SsmParameter.endpoint`."""
        now = time.monotonic()
        if now < self._next and not urgent:
            return self._value
        try:
            self._token = self._new_session() if urgent or not self._token else self._token
            found = self._client("appconfigdata").get_latest_configuration(ConfigurationToken=self._token)
        except ClientError as error:
            self._token, self._next = "", now + ABSENT_EVERY_S
            return _absent(error)
        self._token = found["NextPollConfigurationToken"]
        self._next = now + found["NextPollIntervalInSeconds"]
        # Empty says: as before.
        if text := found["Configuration"].read():
            self._value = _value(text.decode(), self._key)
        return self._value

    def _new_session(self) -> str:
        session = self._client("appconfigdata").start_configuration_session(
            ApplicationIdentifier=self._application,
            EnvironmentIdentifier=self._environment,
            ConfigurationProfileIdentifier=self._profile,
            RequiredMinimumPollIntervalInSeconds=POLL_INTERVAL_S,
        )
        return str(session["InitialConfigurationToken"])


class Record:
    """A DNS record, looked up through Route 53's API, and kept for its TTL as a resolver keeps it.

    The address that the record leads to is what a TLS certificate is checked against.
    """

    parameters: tuple[str, ...] = ()

    def __init__(self, place: str, client: Client, port: int) -> None:
        self._zone, _, name = place.removeprefix("/hostedzone/").partition("/")
        self._name = name.rstrip(".").lower()
        self._client, self._port = client, port
        self._expires = float("-inf")
        self._value = ""

    def endpoint(self, parameters: Mapping[str, str], *, urgent: bool) -> str:
        """Return the endpoint, as `SsmParameter.endpoint`."""
        now = time.monotonic()
        if now < self._expires:
            return self._value
        try:
            record = find_record(self._client("route53"), self._zone, self._name)
        except ClientError as error:
            record = {}
            _absent(error)
        host = record["ResourceRecords"][0]["Value"].rstrip(".") if record else ""
        self._value = f"{host}:{self._port}" if host else ""
        self._expires = now + (record["TTL"] if record else ABSENT_EVERY_S)
        return self._value


Source = SsmParameter | Secret | Configuration | Record


def source(text: str, client: Client, port: int = 0) -> Source:
    """Return the source that a text names; `client` makes a boto3 client of a service, `port` is a record's.

    Raises ValueError for a text of no known form.
    """
    form, _, place = text.partition(":")
    if text.startswith("/") or not place:
        return SsmParameter(text)
    if form == "secretsmanager":
        return Secret(place, client)
    if form == "appconfig" and place.count("/") == 2:
        return Configuration(place, client)
    if form == "route53" and "/" in place:
        if not port:
            raise ValueError(f"{text} says no port: give it with --port.")
        return Record(place, client, port)
    raise ValueError(f"{text} is no SSM parameter, secretsmanager:ID[#key], appconfig:A/E/P[#key] or route53:ZONE/name.")


def find_record(route53: Any, zone: str, name: str) -> dict[str, Any]:
    """Return the record set CNAME or A of a name, {} where there is none; `zone` is a hosted zone's id or name."""
    zone_id = find_zone(route53, zone)
    if not zone_id:
        return {}
    found = route53.list_resource_record_sets(HostedZoneId=zone_id, StartRecordName=name, MaxItems="10")
    for record in found["ResourceRecordSets"]:
        if record["Name"].rstrip(".") == name and record["Type"] in ("A", "CNAME") and record.get("ResourceRecords"):
            return dict(record)
    return {}


def find_zone(route53: Any, zone: str) -> str:
    """Return the id of a hosted zone of this id or name, "" where there is none of this name."""
    if ZONE_ID.fullmatch(zone):
        return zone
    found = route53.list_hosted_zones_by_name(DNSName=zone, MaxItems="1")["HostedZones"]
    return found[0]["Id"].rpartition("/")[2] if found and found[0]["Name"].rstrip(".") == zone.rstrip(".") else ""


def _value(text: str, key: str) -> str:
    """Return the text, or what JSON holds under the key, without one under host and port; "" for JSON without it, or none."""
    try:
        facts = json.loads(text)
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        return "" if key else text.strip()
    if not key and facts.keys() >= {"host", "port"}:
        return f"{facts['host']}:{facts['port']}"
    return str(facts.get(key, "")).strip()


def _absent(error: ClientError) -> str:
    """Return "" for an error that says that something is not there; raise any other."""
    if error.response["Error"]["Code"] in ABSENT:
        return ""
    raise error

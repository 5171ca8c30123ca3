"""One local cloud for all adapters, and each store as its application and its other writers use it."""

from __future__ import annotations

import functools
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from helpers.aws import Aws, connect
from helpers.rehearsal import cloud as clouds

OLD, NEW, THEIRS = "old.example.com:6379", "new.example.com:6379", "theirs.example.com:6379"
SECRET = "hunter2-hunter2"


@pytest.fixture(scope="package")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clouds.Cloud]:
    directory = tmp_path_factory.mktemp("cloud")
    yield clouds.up(directory, max_hours=1)
    clouds.down(directory)


@pytest.fixture(scope="package")
def aws(cloud: clouds.Cloud) -> Iterator[Aws]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**cloud.environment(), "NO_PROXY": "127.0.0.1"}.items():
            patch.setenv(name, value)
        found = connect()
        for service in ("ssm", "secretsmanager", "appconfig", "appconfigdata", "route53"):
            found.client(service)
    yield found


@functools.cache
def client(endpoint: str, region: str, service: str) -> Any:
    """A client of everybody else: the application, its operators, other writers."""
    session = boto3.Session("rehearsal", "rehearsal", region_name=region)
    return session.client(service, endpoint_url=endpoint, config=Config(retries={"total_max_attempts": 1}, proxies={}))


class Store:
    """A store with one setting at OLD: where it is, all that it holds, and a writer who is not us."""

    service = ""
    decisive = ""  # the operation that makes the change
    writes: tuple[str, ...] = ()

    def __init__(self, cloud: clouds.Cloud) -> None:
        self.cloud = cloud
        self.name = f"s{uuid.uuid4().hex[:8]}"
        self.where = self.make()

    def client(self, service: str = "") -> Any:
        return client(self.cloud.endpoint, self.cloud.region, service or self.service)

    def make(self) -> str:
        raise NotImplementedError

    def everything(self) -> Any:
        """All that the application and its operators see of the setting, less counters."""
        raise NotImplementedError

    def write(self, endpoint: str) -> None:
        """Somebody else points the setting elsewhere."""
        raise NotImplementedError


class Ssm(Store):
    service, decisive, writes = "ssm", "PutParameter", ("PutParameter",)
    made_of: dict[str, str] = {"Type": "String", "Description": "Redis", "AllowedPattern": r"^\S+:\d+$"}

    def make(self) -> str:
        self.where = f"/{self.name}"
        self.client().put_parameter(Name=self.where, Value=OLD, **self.made_of)
        return self.where

    def everything(self) -> Any:
        client = self.client()
        value = client.get_parameter(Name=self.where, WithDecryption=True)["Parameter"]["Value"]
        found = client.describe_parameters(ParameterFilters=[{"Key": "Name", "Values": [self.where]}])["Parameters"][0]
        return value, {name: found.get(name) for name in ("Type", "KeyId", "Tier", "Description", "AllowedPattern", "DataType")}

    def write(self, endpoint: str) -> None:
        self.client().put_parameter(Name=self.where, Value=endpoint, Overwrite=True, **self.made_of)


class SecureSsm(Ssm):
    made_of = {"Type": "SecureString", "KeyId": "alias/own", "Tier": "Advanced"}


class Secret(Store):
    """A secret whose JSON has a password, odd blanks, a long number and a key beside the endpoint."""

    service, decisive = "secretsmanager", "UpdateSecretVersionStage"
    writes = ("PutSecretValue", "UpdateSecretVersionStage", "UpdateSecretVersionStage")
    key = "#redis"

    def text(self, endpoint: str) -> str:
        return f'{{ "password":"{SECRET}",\n\t"n": 1.10000000000000000001e2, "redis" :"{endpoint}", "umlaut": "ü\\u00fc" }}\n'

    def make(self) -> str:
        self.client().create_secret(Name=f"app/{self.name}", SecretString=self.text(OLD))
        return f"secretsmanager:app/{self.name}{self.key}"

    def everything(self) -> Any:
        client, name = self.client(), f"app/{self.name}"
        labels = client.describe_secret(SecretId=name)["VersionIdsToStages"].values()
        return client.get_secret_value(SecretId=name)["SecretString"], {label for found in labels for label in found} - {"AWSPREVIOUS"}

    def write(self, endpoint: str) -> None:
        self.client().put_secret_value(SecretId=f"app/{self.name}", SecretString=self.text(endpoint))


class HostAndPort(Secret):
    key = ""

    def text(self, endpoint: str) -> str:
        host, port = endpoint.split(":")
        return json.dumps({"username": "app", "port": int(port), "host": host, "password": SECRET})


class PlainSecret(Secret):
    key = ""

    def text(self, endpoint: str) -> str:
        return f"{endpoint}\n"


class AppConfig(Store):
    service, decisive = "appconfig", "StartDeployment"
    writes = ("CreateHostedConfigurationVersion", "StartDeployment")

    def text(self, endpoint: str) -> str:
        return json.dumps({"token": SECRET, "cache": endpoint}, indent=3)

    def make(self) -> str:
        client = self.client()
        self.application = client.create_application(Name=self.name)["Id"]
        self.environment = client.create_environment(ApplicationId=self.application, Name="live")["Id"]
        self.profile = client.create_configuration_profile(ApplicationId=self.application, Name="redis", LocationUri="hosted")["Id"]
        self.at_once = client.create_deployment_strategy(Name=self.name, DeploymentDurationInMinutes=0, GrowthFactor=100, FinalBakeTimeInMinutes=0, ReplicateTo="NONE")["Id"]
        self.write(OLD)
        return f"appconfig:{self.name}/live/redis#cache"

    def version(self, text: str) -> int:
        place = {"ApplicationId": self.application, "ConfigurationProfileId": self.profile}
        return self.client().create_hosted_configuration_version(**place, Content=text.encode(), ContentType="application/json")["VersionNumber"]

    def deploy(self, version: int, strategy: str = "") -> None:
        self.client().start_deployment(
            ApplicationId=self.application, EnvironmentId=self.environment, ConfigurationProfileId=self.profile,
            DeploymentStrategyId=strategy or self.at_once, ConfigurationVersion=str(version),
        )  # fmt: skip

    def everything(self) -> Any:
        data = self.client("appconfigdata")
        place = {"ApplicationIdentifier": self.name, "EnvironmentIdentifier": "live", "ConfigurationProfileIdentifier": "redis"}
        found = data.get_latest_configuration(ConfigurationToken=data.start_configuration_session(**place)["InitialConfigurationToken"])
        return found["Configuration"].read().decode(), found["ContentType"]

    def write(self, endpoint: str) -> None:
        self.deploy(self.version(self.text(endpoint)))

    def versions(self) -> list[int]:
        place = {"ApplicationId": self.application, "ConfigurationProfileId": self.profile}
        return [one["VersionNumber"] for one in self.client().list_hosted_configuration_versions(**place)["Items"]]


class Dns(Store):
    service, decisive, writes = "route53", "ChangeResourceRecordSets", ("ChangeResourceRecordSets",)

    def make(self) -> str:
        self.zone = self.client().create_hosted_zone(Name=f"{self.name}.test", CallerReference=self.name)["HostedZone"]["Id"].rpartition("/")[2]
        self.change("CREATE", self.record(OLD))
        return f"route53:{self.zone}/redis.{self.name}.test"

    def record(self, endpoint: str, **more: Any) -> dict[str, Any]:
        host = endpoint.partition(":")[0]
        return {"Name": f"redis.{self.name}.test", "Type": "CNAME", "TTL": 30, "ResourceRecords": [{"Value": f"{host}."}], **more}

    def change(self, action: str, record: dict[str, Any]) -> None:
        self.client().change_resource_record_sets(HostedZoneId=self.zone, ChangeBatch={"Changes": [{"Action": action, "ResourceRecordSet": record}]})

    def everything(self) -> Any:
        found = self.client().list_resource_record_sets(HostedZoneId=self.zone)["ResourceRecordSets"]
        return [one for one in found if one["Type"] not in ("SOA", "NS")]

    def write(self, endpoint: str) -> None:
        self.change("UPSERT", self.record(endpoint))


STORES: dict[str, type[Store]] = {one.__name__: one for one in (Ssm, SecureSsm, Secret, HostAndPort, PlainSecret, AppConfig, Dns)}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, cloud: clouds.Cloud) -> Store:
    """Each kind of setting in turn, at OLD; or the one that a test names."""
    return STORES[request.param](cloud)


@pytest.fixture
def before_call(aws: Aws) -> Iterator[Callable[[Store, str, Callable[[], Any]], None]]:
    """A function that does something once, just before our next call of an operation leaves; it may answer in the cloud's place."""
    registered: list[tuple[Any, str, Any]] = []

    def register(store: Store, operation: str, do: Callable[[], Any]) -> None:
        events, left = aws.client(store.service).meta.events, [do]

        def hook(**_: Any) -> Any:
            answer = left.pop()() if left else None
            return answer if isinstance(answer, tuple) and isinstance(answer[0], AWSResponse) else None

        name = f"before-call.{store.service}.{operation}"
        events.register(name, hook)
        registered.append((events, name, hook))

    yield register
    for events, name, hook in registered:
        events.unregister(name, hook)

"""Where the application finds its endpoint, on the local cloud: every form seeded, read, changed and taken away."""

from __future__ import annotations

import json
import uuid

import pytest

from helpers.rehearsal import endpoint_source, settings
from helpers.rehearsal.cloud import Cloud
from helpers.rehearsal.endpoint_source import Configuration, Record, source
from helpers.rehearsal.scenario import Access
from helpers.rehearsal.settings import SettingRefused

OLD, NEW = "127.0.0.2:6379", "127.0.0.3:6379"
FORMS = {
    "parameter": "/{0}/endpoint",
    "secret": "secretsmanager:{0}",
    "key of a secret": "secretsmanager:{0}/settings#redis",
    "configuration": "appconfig:{0}/production/redis",
    "key of a configuration": "appconfig:{0}/production/settings#redis.endpoint",
    "record in a zone by name": "route53:{0}.internal/redis.{0}.internal",
    "record in a zone by id": "route53:Z{1}/redis.{0}.internal.",
}


@pytest.fixture
def access(cloud: Cloud) -> Access:
    return Access(cloud.environment())


@pytest.fixture(params=FORMS, ids=str)
def text(request: pytest.FixtureRequest) -> str:
    name = uuid.uuid4().hex[:12]
    return FORMS[request.param].format(name, name.upper())


def test_a_setting_of_any_form_is_made_read_changed_and_taken_away(text: str, access: Access) -> None:
    assert settings.read(access.client, text) == ""
    settings.write(access.client, text, OLD)
    assert settings.read(access.client, text) == OLD
    settings.write(access.client, text, NEW)
    assert settings.read(access.client, text) == NEW
    settings.remove(access.client, text)
    assert settings.read(access.client, text) == ""
    settings.write(access.client, text, OLD)
    assert settings.read(access.client, text) == OLD


def test_the_other_keys_of_a_secret_stay(access: Access) -> None:
    client = access.client("secretsmanager")
    client.create_secret(Name="shared", SecretString='{"other": 1, "redis": "a:1"}')
    settings.write(access.client, "secretsmanager:shared#redis", OLD)
    assert json.loads(client.get_secret_value(SecretId="shared")["SecretString"]) == {"other": 1, "redis": OLD}


def test_host_and_port_may_be_two_keys(access: Access) -> None:
    access.client("secretsmanager").create_secret(Name="two-keys", SecretString='{"host": "127.0.0.2", "port": 6379}')
    assert settings.read(access.client, "secretsmanager:two-keys") == OLD


def test_the_hosted_zone_is_private_and_the_record_of_an_address_is_an_a_record(access: Access) -> None:
    settings.write(access.client, "route53:ZCHOSEN1/redis.shop.internal", OLD)
    route53 = access.client("route53")
    zone = route53.get_hosted_zone(Id="ZCHOSEN1")["HostedZone"]
    assert (zone["Name"], zone["Config"]["PrivateZone"]) == ("shop.internal.", True)
    assert endpoint_source.find_record(route53, "ZCHOSEN1", "redis.shop.internal")["Type"] == "A"
    settings.write(access.client, "route53:ZCHOSEN1/cache.shop.internal", "sessions.abc.apne1.cache.amazonaws.com:6379")
    assert endpoint_source.find_record(route53, "ZCHOSEN1", "cache.shop.internal")["Type"] == "CNAME"
    with pytest.raises(SettingRefused, match="leads to port 6379"):
        settings.write(access.client, "route53:ZCHOSEN1/redis.shop.internal", "127.0.0.2:7000")


def test_a_zone_whose_id_is_left_to_chance_gets_one(access: Access) -> None:
    made = [
        access.client("route53").create_hosted_zone(Name=f"{name}.test", CallerReference=name)["HostedZone"]["Id"] for name in "ab"
    ]
    assert len(set(made)) == 2 and all(len(one) == len("/hostedzone/Z") + 13 for one in made)


def test_a_record_is_kept_for_its_ttl(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "route53:ZTTL01/redis.ttl.internal"
    now = [1_000.0]
    monkeypatch.setattr(endpoint_source.time, "monotonic", lambda: now[0])
    settings.write(access.client, text, OLD)
    record = source(text, access.client, settings.PORT)
    assert isinstance(record, Record)
    assert record.endpoint({}, urgent=True) == OLD
    settings.write(access.client, text, NEW)
    now[0] += settings.TTL_S - 0.1
    assert record.endpoint({}, urgent=True) == OLD, "a resolver keeps it, however urgent"
    now[0] += 0.2
    assert record.endpoint({}, urgent=False) == NEW


def test_a_configuration_is_read_as_often_as_the_service_allows_or_at_once_in_a_new_session(
    access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "appconfig:polled/production/settings#redis"
    now = [1_000.0]
    monkeypatch.setattr(endpoint_source.time, "monotonic", lambda: now[0])
    settings.write(access.client, text, OLD)
    patient, urgent = source(text, access.client), source(text, access.client)
    assert isinstance(patient, Configuration)
    assert patient.endpoint({}, urgent=False) == urgent.endpoint({}, urgent=False) == OLD
    settings.write(access.client, text, NEW)
    now[0] += 14
    assert patient.endpoint({}, urgent=False) == OLD
    assert urgent.endpoint({}, urgent=True) == NEW
    now[0] += 2
    assert patient.endpoint({}, urgent=False) == NEW
    now[0] += 16
    assert patient.endpoint({}, urgent=False) == NEW, "an empty answer says: as before"


@pytest.mark.parametrize("text", ["appconfig:a/b", "route53:ZONE", "carrier-pigeon:loft"])
def test_a_text_of_no_known_form_is_refused(text: str, access: Access) -> None:
    with pytest.raises(SettingRefused, match="is no SSM parameter, secretsmanager"):
        settings.read(access.client, text)
    with pytest.raises(ValueError, match="--port"):
        source("route53:Z1ABCDE/a.b", access.client)

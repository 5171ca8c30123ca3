"""The application on every wire: TLS, AUTH, a rotated token, a cluster whose shards freeze, fail over and lose writes."""

from __future__ import annotations

import contextlib
import json
import ssl
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from helpers.rehearsal import dataset, engines, settings
from helpers.rehearsal.cloud import Cloud
from helpers.rehearsal.cluster_wire import ClusterWire
from helpers.rehearsal.login import words_of
from helpers.rehearsal.scenario import Access
from helpers.rehearsal.servers import Server
from helpers.rehearsal.wire import LoginRefused, Refused, Wire, WireError
from tests.rehearsal.clusters import RealCluster, Front
from tests.rehearsal.mishaps import LeftBehind, capture_cut, flushed
from tests.rehearsal.running import SESSIONS, Running

Until = Callable[..., Any]
TOKEN, ROTATED = "first-token-of-the-group", "second-token-of-the-group"


@pytest.fixture
def access(cloud: Cloud) -> Access:
    return Access(cloud.environment())


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def bundle(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("authority") / "bundle.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    with RealCluster(engines.available()[0], tmp_path_factory.mktemp("cluster"), replicas=True) as found:
        yield found


@pytest.fixture
def on_cluster(access: Access, cluster: RealCluster, tmp_path: Path, until: Until) -> Iterator[Running]:
    running = Running(access, tmp_path, until, endpoint=cluster.endpoint, arguments=["--cluster"])
    yield running
    running.close()
    for server in cluster.primaries:
        server.command("FLUSHALL")


def secret(access: Access, value: str) -> str:
    name = f"auth-{uuid.uuid4().hex[:8]}"
    access.client("secretsmanager").create_secret(Name=name, SecretString=value)
    return name


# TLS and logins on the wire itself


def test_a_wire_speaks_tls_and_checks_who_it_speaks_to(authority: trustme.CA, bundle: Path, tmp_path: Path) -> None:
    context = ssl.create_default_context(cafile=bundle)
    with Server(engines.available()[0], tmp_path) as server:
        right, wrong = Front(server, authority), Front(server, authority, "example.org")
        with Wire(right.endpoint, tls=context) as wire:
            # More than one TLS record each way.
            assert wire.one("SET", "large", b"x" * 1_000_000) == b"OK"
            assert wire.one("GET", "large") == b"x" * 1_000_000
            assert wire.bulk(("SET", f"key:{number}", "x" * 100) for number in range(20_000)) == 20_000
        with pytest.raises(WireError, match="certificate"):
            Wire(wrong.endpoint, tls=context)
        with pytest.raises(WireError, match="certificate"):
            Wire(right.endpoint, tls=ssl.create_default_context())
        with pytest.raises(WireError):
            Wire(f"127.0.0.1:{server.port}", tls=context, timeout_s=0.5)
        right.close()
        wrong.close()


def test_a_wait_on_an_encrypted_wire_can_be_given_up(authority: trustme.CA, bundle: Path, tmp_path: Path) -> None:
    left = False
    with Server(engines.available()[0], tmp_path) as server:
        front = Front(server, authority)
        with Wire(front.endpoint, tls=ssl.create_default_context(cafile=bundle), abandon=lambda: left) as wire:
            server.command("CLIENT", "PAUSE", "30000", "WRITE")
            left, began = True, time.monotonic()
            with pytest.raises(WireError, match="given up"):
                wire.one("SET", "a", 1)
            assert time.monotonic() - began < 0.5
        front.close()


def test_a_login_is_a_token_or_user_and_password(tmp_path: Path) -> None:
    with Server(engines.available()[0], tmp_path, config={"requirepass": TOKEN}, user="default", password=TOKEN) as server:
        server.command("ACL", "SETUSER", "application", "on", f">{ROTATED}", "~*", "&*", "+@all")
        endpoint = f"127.0.0.1:{server.port}"
        for login in ((TOKEN,), ("application", ROTATED)):
            with Wire(endpoint, login=login, name="me") as wire:
                assert wire.one("CLIENT", "GETNAME") == b"me"
        with pytest.raises(LoginRefused) as refused:
            Wire(endpoint, login=("application", TOKEN))
        assert TOKEN not in str(refused.value)
        with Wire(endpoint) as wire, pytest.raises(Refused, match="NOAUTH"):
            wire.one("GET", "a")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TOKEN, (TOKEN,)),
        (f" {TOKEN}\n", (TOKEN,)),
        ('{"username": "app", "password": "p"}', ("app", "p")),
        ('{"password": "p"}', ("p",)),
        ("{brace-first-token", ("{brace-first-token",)),
    ],
)
def test_a_secret_holds_the_words_for_auth(text: str, words: tuple[str, ...]) -> None:
    assert words_of(text) == words


# The application


def test_it_works_encrypted_and_logged_in_and_survives_a_rotation_of_its_token(
    access: Access, authority: trustme.CA, bundle: Path, tmp_path: Path, until: Until
) -> None:
    server = Server(engines.available()[0], tmp_path / "group", config={"requirepass": TOKEN}, user="default", password=TOKEN)
    front = Front(server, authority)
    name = secret(access, TOKEN)
    arguments = ["--tls", "--login-secret", name]
    running = Running(
        access, tmp_path, until, endpoint=front.endpoint, arguments=arguments, environment={"SSL_CERT_FILE": str(bundle)}
    )
    try:
        # As ModifyReplicationGroup with AuthTokenUpdateStrategy SET, after the secret has been changed.
        access.client("secretsmanager").put_secret_value(SecretId=name, SecretString=ROTATED)
        server.command("CONFIG", "SET", "requirepass", ROTATED)
        server.login = ("default", ROTATED)
        server.admin().client_kill_filter(_type="normal", skipme=True)
        before = running.report()["acknowledged_writes"]
        report = running.wait(lambda report: report["acknowledged_writes"] > before + 400 and report["audits"])
        assert not [text for text in report["errors"] if "WRONGPASS" in text or "NOAUTH" in text]
        left = running.end()
        assert (left["acknowledged_writes_lost"], left["stale_reads"], left["sessions"]) == (0, 0, SESSIONS)
        for text in ((tmp_path / "application.log").read_text(), json.dumps(left), " ".join(running.process.args)):
            assert TOKEN not in text and ROTATED not in text
    finally:
        running.close()
        front.close()
        server.stop()


def test_a_token_that_is_rotated_before_the_secret_is_an_outage_until_the_secret_follows(
    access: Access, tmp_path: Path, until: Until
) -> None:
    server = Server(engines.available()[0], tmp_path / "group", config={"requirepass": TOKEN}, user="default", password=TOKEN)
    name = secret(access, json.dumps({"username": "default", "password": TOKEN}))
    endpoint = f"127.0.0.1:{server.port}"
    running = Running(access, tmp_path, until, endpoint=endpoint, arguments=["--login-secret", name])
    try:
        server.command("CONFIG", "SET", "requirepass", ROTATED)
        server.login = ("default", ROTATED)
        server.admin().client_kill_filter(_type="normal", skipme=True)
        out = running.wait(lambda report: any("WRONGPASS" in text for text in report["errors"]))
        access.client("secretsmanager").put_secret_value(
            SecretId=name, SecretString=json.dumps({"username": "default", "password": ROTATED})
        )
        report = running.wait(lambda report: report["acknowledged_writes"] > out["acknowledged_writes"] + 200)
        assert report["acknowledged_writes_lost"] == 0
        assert report["longest_write_gap_ms"] > 100
    finally:
        running.close()
        server.stop()


def test_on_a_cluster_it_writes_reads_and_audits_all_shards_without_loss(on_cluster: Running, cluster: RealCluster) -> None:
    report = on_cluster.wait(lambda report: report["acknowledged_writes"] > 1_000)
    report = on_cluster.audited()
    assert (report["acknowledged_writes_lost"], report["stale_reads"], report["errors"]) == (0, 0, {})
    sizes = [server.command("DBSIZE") for server in cluster.primaries]
    assert min(sizes) > 100
    clients = [server.command("CLIENT", "LIST").decode() for server in cluster.primaries]
    assert all("name=web-application" in text for text in clients)


@pytest.mark.parametrize("shard", [0, 1])
def test_a_frozen_shard_is_a_write_gap_though_the_others_are_not(shard: int, on_cluster: Running, cluster: RealCluster) -> None:
    cluster.primaries[shard].command("CLIENT", "PAUSE", "300", "WRITE")
    report = on_cluster.wait(lambda report: report["longest_write_gap_ms"] >= 290)
    assert report["longest_write_gap_ms"] < 1_500
    assert on_cluster.audited()["acknowledged_writes_lost"] == 0
    assert report["unacknowledged_writes"] == 0


def test_a_shard_that_refuses_writes_is_a_write_gap_though_the_other_takes_them(on_cluster: Running, cluster: RealCluster) -> None:
    cluster.primaries[1].admin().config_set("min-replicas-to-write", 5)
    time.sleep(0.6)
    cluster.primaries[1].admin().config_set("min-replicas-to-write", 0)
    on_cluster.audited()
    report = on_cluster.wait(lambda report: report["longest_write_gap_ms"] >= 590)
    started, size = report["gap_started"], report["longest_write_gap_ms"]
    inside = sum(count for at, count in report["timeline"] if started + 50 < at < started + size - 50)
    assert inside > 10, "the other shard took writes meanwhile"
    assert any("NOREPLICAS" in text for text in report["errors"])


def test_it_follows_a_failover_of_one_shard_and_loses_nothing(on_cluster: Running, cluster: RealCluster) -> None:
    cluster.replicas[1].command("CLUSTER", "FAILOVER")
    cluster.until(lambda: b"role:master" in cluster.replicas[1].command("INFO", "replication"))
    written = on_cluster.audited()["acknowledged_writes"]
    on_cluster.wait(lambda report: report["acknowledged_writes"] > written + 200)
    report = on_cluster.audited()
    assert (report["acknowledged_writes_lost"], report["stale_reads"]) == (0, 0)
    assert b"web-application" in cluster.replicas[1].command("CLIENT", "LIST")
    cluster.primaries[1], cluster.replicas[1] = cluster.replicas[1], cluster.primaries[1]


def test_it_goes_on_when_a_primary_dies_and_its_replica_takes_over(access: Access, tmp_path: Path, until: Until) -> None:
    with RealCluster(engines.available()[0], tmp_path / "cluster", replicas=True) as cluster, contextlib.ExitStack() as stack:
        running = Running(access, tmp_path, until, endpoint=cluster.endpoint, arguments=["--cluster"])
        stack.callback(running.close)
        cluster.primaries[1].kill()
        running.wait(lambda report: report["errors"])
        cluster.replicas[1].command("CLUSTER", "FAILOVER", "TAKEOVER")
        before = running.audited()["acknowledged_writes"]
        report = running.wait(lambda report: report["acknowledged_writes"] > before + 200)
        assert report["longest_write_gap_ms"] > 50
        assert report["longest_read_gap_ms"] > 50


def test_a_write_lost_in_one_shard_is_counted(on_cluster: Running, cluster: RealCluster) -> None:
    on_cluster.wait(lambda report: report["acknowledged_writes"] > 600)
    on_cluster.read_only_for(30)
    on_cluster.wait(lambda report: report["read_only"])
    client = cluster.primaries[1].client()
    counter, session = min(client.keys("visits:*")), max(client.keys("session:*"), key=lambda key: client.hget(key, "stamp"))
    client.decr(counter)
    client.delete(session)
    report = on_cluster.audited()
    assert {one["key"].encode() for one in report["lost_keys"]} == {counter, session}
    assert report["acknowledged_writes_lost"] == sum(one["lost"] for one in report["lost_keys"]) > 1
    assert report["sessions_missing"] == 1
    assert on_cluster.end()["acknowledged_writes_lost"] == report["acknowledged_writes_lost"]


def test_it_moves_from_one_cluster_to_another(on_cluster: Running, cluster: RealCluster, tmp_path: Path) -> None:
    with RealCluster(engines.pair()[1], tmp_path / "new") as new:
        on_cluster.read_only_for(30)
        on_cluster.wait(lambda report: report["read_only_since"])
        for old, fresh in zip(cluster.primaries, new.primaries, strict=True):
            source, target = old.client(), fresh.client()
            for key in source.scan_iter(count=1_000):
                target.restore(key, 0, source.dump(key), replace=True)
        on_cluster.point_at(new.endpoint)
        on_cluster.wait(lambda report: len(report["endpoints"]) == 2)
        on_cluster.read_only_for(0)
        before = on_cluster.audited()["acknowledged_writes"]
        on_cluster.wait(lambda report: report["acknowledged_writes"] > before + 200)
        report = on_cluster.audited()
        assert (report["acknowledged_writes_lost"], report["audited_endpoint"]) == (0, new.endpoint)
        on_cluster.end()


def test_a_cluster_with_encryption_and_a_token_is_used_by_its_configuration_endpoint(
    access: Access, authority: trustme.CA, bundle: Path, tmp_path: Path, until: Until
) -> None:
    with contextlib.ExitStack() as stack:
        config = {"requirepass": TOKEN, "masterauth": TOKEN}
        cluster = RealCluster(engines.available()[0], tmp_path / "cluster", authority=authority, **config)
        stack.callback(cluster.stop)
        arguments = ["--cluster", "--tls", "--login-secret", secret(access, TOKEN)]
        environment = {"SSL_CERT_FILE": str(bundle)}
        running = Running(
            access, tmp_path, until, endpoint=cluster.endpoint, arguments=arguments, environment=environment
        )
        stack.callback(running.close)
        running.wait(lambda report: report["acknowledged_writes"] > 500)
        report = running.audited()
        assert (report["acknowledged_writes_lost"], report["errors"]) == (0, {})
        assert min(server.command("DBSIZE") for server in cluster.servers) > 100
        options = {"tls": ssl.create_default_context(cafile=bundle), "login": (TOKEN,)}
        assert dataset.fill(cluster.fronts[1].endpoint, 2_000, cluster=True, **options) == 2_000


OTHER_ADDRESSES = pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.1 is the only address of the loopback there")
PLACES = [
    "secretsmanager:{}#redis",
    "appconfig:{}/production/settings#redis",
    pytest.param("route53:{}.internal/redis.{}.internal", marks=OTHER_ADDRESSES),
]


@pytest.mark.parametrize("place", PLACES)
def test_it_moves_with_a_setting_of_every_form_while_writes_stand_still(
    place: str, access: Access, tmp_path: Path, until: Until
) -> None:
    name = uuid.uuid4().hex[:12]
    by_record = place.startswith("route53")
    # A record carries no port: then both endpoints have the same one, on addresses of their own.
    hosts, port = (("127.91.7.1", "127.91.7.2"), settings.PORT) if by_record else (("127.0.0.1", "127.0.0.1"), 0)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server(engines.available()[0], tmp_path / "group"))
        old, new = (stack.enter_context(Front(server, host=host, port=port)) for host in hosts)
        arguments = ["--port", str(port)] if by_record else []
        running = Running(access, tmp_path, until, endpoint=old.endpoint, place=place.format(name, name), arguments=arguments)
        stack.callback(running.close)
        server.command("CLIENT", "PAUSE", "20000", "WRITE")
        running.point_at(new.endpoint)
        report = running.wait(lambda report: len(report["endpoints"]) == 2 and report["errors"])
        assert report["endpoint"] == new.endpoint
        assert set(report["errors"]) == {"given up: the endpoint changed"}, "it left while writes stood still"
        server.command("CLIENT", "UNPAUSE")
        report = running.wait(lambda found: found["acknowledged_writes"] > report["acknowledged_writes"] + 100)
        assert report["acknowledged_writes_lost"] == 0
        assert report["write_gap_ms"] < 15_000, "a configuration alone would be looked at after 15 s"


def test_what_goes_wrong_can_be_made_on_purpose(tmp_path: Path) -> None:
    with Server(engines.available()[0], tmp_path) as server:
        endpoint = f"127.0.0.1:{server.port}"
        with LeftBehind(endpoint) as behind, Wire(endpoint, name="runbook-capture-1") as capture:
            while len(behind.acknowledged) < 10:
                time.sleep(0.01)
            flushed(endpoint)
            assert server.command("DBSIZE") < 10
            assert capture_cut(endpoint) == 1
            with pytest.raises(WireError):
                capture.one("PING")
        assert not behind.refused


def test_a_client_of_a_cluster_can_be_left_behind_too(cluster: RealCluster) -> None:
    with LeftBehind(cluster.endpoint, cluster=True) as behind:
        while len(behind.acknowledged) < 20:
            time.sleep(0.01)
    with ClusterWire(cluster.endpoint) as wire:
        assert wire.one("EXISTS", *(f"left-behind:{number}" for number in behind.acknowledged)) == len(behind.acknowledged)

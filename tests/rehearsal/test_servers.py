"""Server processes start with what they are given, say why when they cannot, and end with us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.rehearsal import engines, servers
from helpers.rehearsal.engines import Engine
from helpers.rehearsal.servers import Server, ServerFailed

ROOT = Path(__file__).resolve().parents[2]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("engine", engines.available(), ids=str)
def test_every_engine_serves_with_the_given_configuration(engine: Engine, tmp_path: Path) -> None:
    with Server(engine, tmp_path, config={"maxmemory": "100mb", "notify-keyspace-events": ""}) as server:
        assert server.client(decode_responses=True).config_get("maxmemory") == {"maxmemory": "104857600"}
        assert server.client(decode_responses=True).config_get("save") == {"save": ""}
        pid = server.pid
    assert not is_running(pid)


@pytest.mark.parametrize("engine", engines.available(), ids=str)
def test_a_replica_has_the_data_without_waiting_for_a_clock_tick(
    engine: Engine, tmp_path: Path, until: Callable[..., Any]
) -> None:
    with Server(engine, tmp_path / "primary") as primary:
        primary.client().set("key", "value")
        with Server(engine, tmp_path / "replica", replica_of=primary) as replica:
            until(lambda: replica.client().get("key") == b"value", timeout_s=5)


def test_data_moves_to_a_newer_engine_through_an_rdb_file(tmp_path: Path) -> None:
    old, new = engines.pair()
    with Server(old, tmp_path / "old") as source:
        source.client().hset("session:1", mapping={"user": "alice"})
        source.client().save()
    with Server(new, tmp_path / "new", rdb=source.rdb_path) as target:
        assert target.client(decode_responses=True).hgetall("session:1") == {"user": "alice"}


def test_a_truncated_rdb_file_is_refused_in_the_servers_own_words(tmp_path: Path) -> None:
    file = tmp_path / "cut.rdb"
    file.write_bytes(b"REDIS0009\xfa\x09redis-ver")
    with pytest.raises(ServerFailed, match="did not start: .*(EOF|Short read)"):
        Server(engines.available()[0], tmp_path / "server", rdb=file)


def test_a_port_that_is_taken_is_an_error_when_it_was_asked_for(tmp_path: Path) -> None:
    with Server(engines.available()[0], tmp_path / "first") as first, pytest.raises(ServerFailed):
        Server(engines.available()[0], tmp_path / "second", port=first.port, ready_timeout_s=2)


def test_configuration_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    with Server(engines.available()[0], tmp_path):
        assert (tmp_path / "server.conf").stat().st_mode & 0o077 == 0


def test_a_renamed_command_answers_only_to_its_secret_name(tmp_path: Path) -> None:
    renamed = {"config": "config-secret", "debug": ""}
    with Server(engines.available()[0], tmp_path, renamed=renamed) as server:
        assert server.command("CONFIG", "GET", "databases") == [b"databases", b"16"]
        with pytest.raises(Exception, match="unknown command"):
            server.client().config_get("databases")


def test_servers_end_when_their_process_is_killed(tmp_path: Path, until: Callable[..., Any]) -> None:
    script = (
        "import sys, time; from pathlib import Path; from helpers.rehearsal import engines, servers;"
        "server = servers.Server(engines.available()[0], Path(sys.argv[1]));"
        "print(server.pid, flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    assert is_running(pid)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    until(lambda: not is_running(pid), timeout_s=5)


def test_a_free_port_can_be_bound() -> None:
    assert 1024 <= servers.free_port() <= 65535

"""The application's writes on real servers: what is lost is counted to the last write."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.rehearsal import engines
from helpers.rehearsal.engines import Engine
from helpers.rehearsal.ledger import Ledger
from helpers.rehearsal.servers import Server
from helpers.rehearsal.wire import Wire, WireError
from helpers.rehearsal.workload import EVENTS, MIX, Workload

# Without deletions: then every write is one whose effect can be missing.
KEEPING = {name: weight for name, weight in MIX.items() if name != "logout"} | {"event": 5, "process": 5}

Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[Server] = []

    def server(engine: Engine | None = None, rdb: Path | None = None) -> Server:
        name = tmp_path / f"server-{len(running)}"
        running.append(Server(engine or engines.available()[0], name, rdb=rdb))
        return running[-1]

    yield server
    for each in running:
        each.stop()


def wire_to(server: Server) -> Wire:
    return Wire(f"127.0.0.1:{server.port}")


def workload(mix: dict[str, int] = KEEPING) -> Workload:
    return Workload(Ledger(start=1_000), sessions=30, mix=mix)


def write(work: Workload, server: Server, count: int) -> int:
    """Make at least `count` writes and return how many were acknowledged."""
    done = 0
    with wire_to(server) as wire:
        while done < count:
            done += work.write(wire)
    return done


def lost(work: Workload, server: Server) -> int:
    with wire_to(server) as wire:
        assert work.audit(wire, lambda: True)
    return int(work.ledger.summary()["acknowledged_writes_lost"])


def saved(server: Server, path: Path) -> Path:
    """Return a copy of the server's data of this moment."""
    server.admin().save()
    return Path(shutil.copyfile(server.rdb_path, path))


@pytest.mark.parametrize("engine", engines.available(), ids=str)
def test_nothing_is_lost_on_a_server_that_stays(engine: Engine, start: Start) -> None:
    server, work = start(engine), workload(MIX)
    done = write(work, server, 1_500)
    assert lost(work, server) == 0
    assert work.ledger.summary()["acknowledged_writes"] == done
    assert server.client().xpending(EVENTS, "mailer")["pending"] == 0


def test_every_write_after_the_backup_is_lost_with_it(start: Start, tmp_path: Path) -> None:
    old, work = start(), workload()
    write(work, old, 1_000)
    backup = saved(old, tmp_path / "backup.rdb")
    after = write(work, old, 400)
    new = start(engines.pair()[1], backup)
    assert lost(work, new) == after


def test_what_is_lost_stays_counted_when_later_writes_hide_it(start: Start, tmp_path: Path) -> None:
    old, work = start(), workload()
    write(work, old, 1_000)
    backup = saved(old, tmp_path / "backup.rdb")
    after = write(work, old, 400)
    new = start(engines.pair()[1], backup)
    write(work, new, 3_000)
    assert lost(work, new) == after


def test_an_empty_server_has_lost_everything(start: Start) -> None:
    old, work = start(), workload()
    done = write(work, old, 600)
    empty = start()
    assert lost(work, empty) == done
    assert work.ledger.summary()["sessions_missing"] == 30
    assert work.sessions == 30


def test_sessions_that_were_logged_out_are_missed_when_they_come_back(start: Start, tmp_path: Path) -> None:
    old, work = start(), workload({"logout": 1})
    write(work, old, 30)
    backup = saved(old, tmp_path / "backup.rdb")
    with wire_to(old) as wire:
        for _ in range(7):
            work._logout(wire)
    assert lost(work, old) == 0
    assert lost(work, start(rdb=backup)) == 7


@pytest.mark.parametrize("keys", ["session:*", "token:*", "SELECT*", "visits:*", "events:*"])
def test_a_key_deleted_behind_its_back_has_lost_its_writes(keys: str, start: Start) -> None:
    server, work = start(), workload()
    write(work, server, 800)
    client = server.client()
    key = min(client.keys(keys))
    expected = int(client.get(key)) if keys.startswith("visits") else None
    client.delete(key)
    found = lost(work, server)
    assert found == expected if expected else found > 0
    assert len(work.ledger.summary()["lost_keys"]) == (2 if keys.startswith("events") else 1)
    # Found by the next writes, it is counted the same.
    write(work, server, 2_000)
    assert lost(work, server) == found


def test_a_damaged_value_is_a_lost_write(start: Start) -> None:
    server, work = start(), workload()
    write(work, server, 300)
    key = min(server.client().keys("session:*"))
    stamp = server.client().hget(key, "stamp")
    server.client().hset(key, "stamp", stamp[:-1] + b"z")
    assert lost(work, server) == 1


def test_an_element_missing_in_the_middle_of_a_list_is_a_lost_write(start: Start) -> None:
    server, work = start(), workload({"history": 1})
    write(work, server, 1_000)
    client = server.client()
    key = min(client.keys("history:*"))
    middle = client.lindex(key, 2)
    client.lrem(key, 1, middle)
    assert lost(work, server) == 1
    assert lost(work, server) == 1


def test_an_event_that_would_be_delivered_again_is_a_lost_acknowledgement(start: Start) -> None:
    server, work = start(), workload()
    write(work, server, 1_500)
    client = server.client()
    processed = len(work._processed)
    assert processed
    client.xgroup_setid(EVENTS, "mailer", "0")
    assert lost(work, server) == processed
    write(work, server, 300)
    assert lost(work, server) == processed


def test_writes_that_a_pause_cuts_off_are_unknown_and_not_lost(start: Start) -> None:
    server, work = start(), workload(MIX)
    write(work, server, 500)
    server.admin().execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
    for _ in range(3):
        with Wire(f"127.0.0.1:{server.port}", timeout_s=0.05) as wire, pytest.raises(WireError, match="no reply within"):
            work.write(wire)
    server.admin().execute_command("CLIENT", "UNPAUSE")
    write(work, server, 500)
    assert lost(work, server) == 0
    assert work.ledger.summary()["unacknowledged_writes"] <= 3


def test_an_audit_of_a_server_that_was_left_says_nothing(start: Start) -> None:
    old, work = start(), workload()
    write(work, old, 300)
    with wire_to(start()) as wire:
        assert not work.audit(wire, lambda: False)
    assert work.ledger.summary()["acknowledged_writes_lost"] == 0


def test_an_application_that_starts_over_an_older_ones_data_finds_nothing_lost(start: Start) -> None:
    server = start()
    write(workload(MIX), server, 800)
    second = Workload(Ledger(start=5_000_000), sessions=30, mix=MIX)
    write(second, server, 800)
    assert lost(second, server) == 0
    server.client().flushall()
    assert lost(second, server) > 0

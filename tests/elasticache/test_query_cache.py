"""The query cache answers what the database would, under the SQL, until it expires or is invalidated."""

from __future__ import annotations

import datetime
import decimal
import time

import pytest

from helpers.aws import calls
from helpers.aws.planned import PlannedWorld
from helpers.elasticache import demo, query_cache
from helpers.elasticache.query_cache import HIT, MISS, PLANNED, USERS_SQL, QueryCache


@pytest.fixture(params=["old", "new"])
def client(request, source, target):
    return {"old": source, "new": target}[request.param]


@pytest.fixture
def database(tmp_path):
    with query_cache.sample_database(tmp_path / "sample.db", orders=500) as database:
        yield database
    database.close()


@pytest.fixture
def cache(client, database):
    return QueryCache(client, database)


def test_the_first_answer_comes_from_the_database_and_the_next_the_same_from_redis(cache, client):
    first, second = cache.ask(USERS_SQL), cache.ask(USERS_SQL)
    assert (first.source, second.source) == (MISS, HIT) == ("*** no cache ***", "*** cache hit ***")
    assert first.rows == second.rows == [[number, name] for number, name in enumerate(query_cache.NAMES, 1)]
    assert first.columns == second.columns == ("id", "name")
    assert first.table().equals(second.table())
    assert client.exists(f"{demo.PREFIX}query:SELECT * FROM users;") and 0 < client.ttl(cache.key(USERS_SQL)) <= demo.TTL_S
    assert first.ms >= first.database_ms + first.store_ms > 0


def test_the_database_is_not_asked_on_a_hit(cache, database):
    cache.ask(USERS_SQL)
    statements: list[str] = []
    database.set_trace_callback(statements.append)
    cache.ask(USERS_SQL)
    assert statements == []


def test_other_parameters_are_another_key(cache):
    sql = "SELECT id FROM users WHERE name = ?;"
    assert (cache.ask(sql, ["alice"]).rows, cache.ask(sql, ["bob"]).rows) == ([[1]], [[2]])
    assert cache.ask(sql, ["alice"]).source == HIT
    assert len({cache.key(sql, values) for values in ([], ["1"], [1], [1, 1], [None], ["日本"])}) == 6


def test_an_answer_is_stale_until_it_is_invalidated(cache):
    table = query_cache.stale(cache)
    assert list(table["source"]) == [MISS, HIT, MISS]
    assert list(table["the application says"]) == ["Ignatius", "Ignatius", "Ignatia"]
    assert list(table["stale"]) == ["no", "yes", "no"]


def test_an_answer_ends_with_its_time_to_live(client, database):
    cache = QueryCache(client, database, ttl_s=0.2)
    cache.ask(USERS_SQL)
    cache.write("DELETE FROM users WHERE id > ?;", [1])
    assert len(cache.ask(USERS_SQL).rows) == 10
    time.sleep(0.3)
    assert len(cache.ask(USERS_SQL).rows) == 1


def test_no_rows_and_nulls_and_empty_text_are_answers_too(cache):
    for sql in ("SELECT * FROM users WHERE id = 0;", "SELECT NULL AS no_value, '' AS no_text, 1.5 AS half, 'ü\n' AS text;"):
        assert (cache.ask(sql).rows, cache.ask(sql).source) == (cache.ask(sql).rows, HIT)
    assert cache.ask(sql).rows == [[None, "", 1.5, "ü\n"]]


def test_what_json_cannot_hold_is_refused_and_dates_and_decimals_are_text(cache):
    assert query_cache._as_text(decimal.Decimal("0.10")) == "0.10"
    assert query_cache._as_text(datetime.date(2026, 11, 23)) == "2026-11-23"
    with pytest.raises(TypeError, match="bytes cannot be kept"):
        cache.ask("SELECT x'00ff' AS blob;")


def test_the_measured_gain_is_of_both_sources_and_says_when_the_cache_does_not_pay(cache):
    gain = query_cache.measure(cache, {"tiny": USERS_SQL, "costly": query_cache.REPORT_SQL}, repeats=7)
    assert gain.times.groupby(["query", "source"]).size().tolist() == [7, 7, 7, 7]
    table = gain.table().set_index("query")
    assert list(table["rows"]) == [10, 10]
    for query, row in table.iterrows():
        faster = row["database (ms)"] > row["Redis (ms)"]
        assert ("faster" in row["the cache is"]) == faster, query
        assert (row["saves time from a hit rate of"] == "never") == (not faster)
    assert gain.figure() is not None and "tiny: the cache is" in gain.finding


def test_a_plan_lists_the_very_writes_of_the_apply(cache, client, database):
    def work(one: QueryCache) -> list[tuple]:
        listed: list[calls.Call] = []
        calls.watch(calls.Watch(listed.append, plan=PlannedWorld() if one is not cache else None))
        try:
            sources = [one.ask(USERS_SQL).source, one.ask(USERS_SQL).source]
            query_cache.measure(one, {"users": USERS_SQL, "report": query_cache.REPORT_SQL}, repeats=2)
            query_cache.stale(one, name="Ignatia")
            demo.remove(one)
        finally:
            calls.watch(None)
        return [sources[1], *[(*call.identity, call.parameters) for call in listed]]

    planned = work(QueryCache(client, database))
    assert client.dbsize() == 0
    database.execute("UPDATE users SET name = 'Ignatius' WHERE id = 9;")
    applied = work(cache)
    assert (planned[0], applied[0]) == (PLANNED, HIT)
    assert planned[1:] == applied[1:]
    assert client.dbsize() == 0


def test_the_sample_database_is_the_same_every_time(tmp_path):
    sums = [query_cache.sample_database(tmp_path / "twice.db", 50).execute("SELECT SUM(total) FROM orders;").fetchone() for _ in range(2)]
    assert sums[0] == sums[1]

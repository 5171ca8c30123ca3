"""The engines that pip brought are found, and described as ElastiCache describes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from helpers.rehearsal import engines
from helpers.rehearsal.engines import Engine


def test_installed_engines_are_executable_and_sorted_oldest_first() -> None:
    found = engines.available()
    assert len(found) >= 2
    assert all(os.access(engine.binary, os.X_OK) for engine in found)
    assert found == sorted(found, key=lambda engine: (engine.name != "redis", engine.number))


@pytest.mark.parametrize(
    ("name", "version", "family"),
    [
        ("redis", "6.2.14", "redis6.x"),
        ("redis", "7.0.15", "redis7"),
        ("valkey", "7.2.6", "valkey7"),
        ("valkey", "8.1.8", "valkey8"),
        ("valkey", "9.1.2", "valkey9"),
    ],
)
def test_an_engine_knows_its_minor_version_and_parameter_family(name: str, version: str, family: str) -> None:
    engine = Engine(name, version, Path("/nowhere"))
    assert engine.family == family
    assert engine.minor == version.rsplit(".", 1)[0]


def test_an_engine_is_found_by_minor_and_by_full_version() -> None:
    for engine in engines.available():
        assert engines.find(engine.name, engine.version) == engine
        assert engines.find(engine.name, engine.minor).minor == engine.minor


def test_an_engine_that_is_not_installed_is_refused_with_what_is() -> None:
    with pytest.raises(LookupError, match=r"No valkey 1\.0 server is installed here; there is redis .*uv sync"):
        engines.find("valkey", "1.0")


def test_a_rehearsal_gets_the_oldest_engine_and_a_newer_one() -> None:
    old, new = engines.pair()
    assert old == engines.available()[0]
    assert (new.name != "redis", new.number) > (old.name != "redis", old.number)

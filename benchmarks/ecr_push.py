"""Push 524 MB in 8 layers to the local cloud's registry, next to `skopeo copy` to the same registry, in turns.

    ./run python benchmarks/ecr_push.py [--rounds 5] [--megabytes 524]

Each push is a process of its own, from the start of Python to its end, so that its time, its processor time and its memory are its own (read
from /proc: Linux); what `push()` alone takes of that is told beside it. Prints a table and writes it to benchmarks/results/ecr_push.md.
The registry's own work is in the wall times of both.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from helpers.rehearsal import cloud as clouds
from helpers.rehearsal.cloud import Cloud

RESULTS = Path(__file__).parent / "results" / "ecr_push.md"
LAYERS, REPUSHES = 8, 20
WALL, CPU, MEMORY_MB, REPUSH_MS = 0.65, 0.4, 40, 100  # the targets: ratios to skopeo, MB over the interpreter's, milliseconds
KIND = "application/vnd.oci.image"
# A process of ours: it connects, pushes, and says what the push alone took and how large the process became.
OURS = """
import sys, time
from helpers.aws import connect
from helpers.ecr import push
aws = connect()
processor, started = time.process_time(), time.perf_counter()
push(aws, sys.argv[1], sys.argv[2], "1.0.0")
told = {"wall": time.perf_counter() - started, "cpu": time.process_time() - processor}
"""
# The same once more, and again and again in the same process.
AGAIN = f"""
{OURS}
told["again_ms"] = []
for _ in range({REPUSHES}):
    started = time.perf_counter()
    push(aws, sys.argv[1], sys.argv[2], "1.0.0")
    told["again_ms"].append((time.perf_counter() - started) * 1000)
"""
# `getrusage` would not do: a process passes its own size on to its children.
TELL = """
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
import json
print(json.dumps({**told, "peak_mb": int(peak) / 1024}))
"""


@dataclass
class Took:
    """What one process took: its wall and processor seconds from start to end, and what it told."""

    wall: float
    cpu: float
    told: dict[str, Any]

    @property
    def alone(self) -> Took:
        """What the push in it took."""
        return Took(self.told["wall"], self.told["cpu"], {})


def layout(folder: Path, size: int) -> Path:
    """An OCI layout of layers that do not compress, `size` bytes together, marked so that no client compresses them again."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(pieces: Iterable[bytes], kind: str) -> dict[str, Any]:
        """Write a blob piece by piece: a process that has been large once passes that on to its children's figures."""
        hashed, count = hashlib.sha256(), 0
        with open(blobs / "new", "wb") as file:
            for piece in pieces:
                hashed.update(piece)
                count += file.write(piece)
        (blobs / "new").rename(blobs / hashed.hexdigest())
        return {"mediaType": f"{KIND}.{kind}", "digest": f"sha256:{hashed.hexdigest()}", "size": count}

    def random(count: int) -> Iterator[bytes]:
        yield bytes.fromhex("1f8b08000000000000ff")  # as gzip begins
        for start in range(10, count, 1 << 20):
            yield os.urandom(min(1 << 20, count - start))

    layers = [put(random(size // LAYERS), "layer.v1.tar+gzip") for _ in range(LAYERS)]
    config = put([json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [one["digest"] for one in layers]}}).encode()], "config.v1+json")
    manifest = put([json.dumps({"schemaVersion": 2, "mediaType": f"{KIND}.manifest.v1+json", "config": config, "layers": layers}).encode()], "manifest.v1+json")
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    return folder


def run(command: Sequence[str], environment: dict[str, str]) -> Took:
    """Run a process to its end and say what it took."""
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    output = (process.stdout or sys.stdin).read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command[0]} failed")
    lines = [line for line in output.splitlines() if line.startswith("{")]
    return Took(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, json.loads(lines[-1]) if lines else {})


def login(cloud: Cloud, folder: Path) -> tuple[str, Path]:
    """The registry's host and a file with a login as skopeo keeps it."""
    import boto3

    given = boto3.client("ecr").get_authorization_token()["authorizationData"][0]
    host = given["proxyEndpoint"].partition("://")[2]
    (folder / "auth.json").write_text(json.dumps({"auths": {host: {"auth": given["authorizationToken"]}}}))
    return host, folder / "auth.json"


def python(program: str, *arguments: str) -> Took:
    """Run a program in a Python of its own, as on a machine where it ran before: with bytecode."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return run([sys.executable, "-c", program + TELL, *arguments], environment)


@dataclass
class Measured:
    """The pushes of this project and of skopeo, in turns, Pythons that do nothing, and milliseconds of pushing again."""

    ours: list[Took]
    theirs: list[Took]
    bare: list[Took]
    again_ms: list[float]


def measure(rounds: int, size: int) -> Measured:
    """Push in turns, each to an empty repository."""
    import boto3

    measured = Measured([], [], [], [])
    with tempfile.TemporaryDirectory(prefix="ecr-push-") as name:
        folder = Path(name)
        image = layout(folder / "image", size)
        cloud = clouds.up(folder / "cloud")
        os.environ.update({**cloud.environment(), "NO_PROXY": "127.0.0.1"})
        try:
            client, (host, auth) = boto3.client("ecr"), login(cloud, folder)
            for number in range(rounds):
                measured.bare.append(python("told = {}"))
                for kind in ("ours", "theirs") if number % 2 else ("theirs", "ours"):
                    repository = f"{kind}/{number}"
                    client.create_repository(repositoryName=repository)
                    if kind == "ours":
                        measured.ours.append(python(OURS, str(image), repository))
                        measured.again_ms += python(AGAIN, str(image), repository).told["again_ms"]
                    else:
                        command = ["skopeo", "--insecure-policy", "copy", "-q", "--authfile", str(auth), "--dest-tls-verify=false", f"oci:{image}", f"docker://{host}/{repository}:1.0.0"]
                        measured.theirs.append(run(command, dict(os.environ)))
                    client.delete_repository(repositoryName=repository, force=True)
        finally:
            clouds.down(folder / "cloud")
    return measured


def report(measured: Measured, size: int) -> str:
    """The results as a page."""
    ours, alone, theirs = measured.ours, [one.alone for one in measured.ours], measured.theirs
    again = sorted(measured.again_ms)
    bare, peak = (statistics.median(one.told["peak_mb"] for one in every) for every in (measured.bare, ours))
    version = subprocess.run(["skopeo", "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]

    def ratio(every: Sequence[Took], which: Callable[[Iterable[float]], float]) -> str:
        wall, cpu = (which(getattr(one, name) for one in every) / which(getattr(one, name) for one in theirs) for name in ("wall", "cpu"))
        return f"{wall:.2f} | {cpu:.2f}"

    def seconds(every: Sequence[Took], which: Callable[[Iterable[float]], float]) -> str:
        return f"{which(one.wall for one in every):.2f} | {which(one.cpu for one in every):.2f}"

    return "\n".join([
        "# A push next to skopeo's", "",
        f"{date.today()}, {os.cpu_count()} cores ({platform.machine()}; load average {os.getloadavg()[0]:.1f} at the end), Python {platform.python_version()}, skopeo {version}.", "",
        f"{size / 1e6:,.0f} MB in {LAYERS} layers that do not compress, to an empty repository of the local cloud's registry, {len(ours)} rounds in turns. The registry runs on the",
        "same cores and hashes what comes in, for both. The whole process is `python -c` with an import, `connect()` and `push()`, from its start to its end;",
        "the push alone is `push()` in it, from the login to the manifest read back and hashed.", "",
        "|  | wall, s, median | processor, s, median | wall, s, best | processor, s, best |",
        "| --- | --- | --- | --- | --- |",
        *(f"| {name} | {seconds(every, statistics.median)} | {seconds(every, min)} |" for name, every in (("this project, the whole process", ours), ("of it the push alone", alone), ("skopeo", theirs), ("a Python that does nothing", measured.bare))),
        f"| ratio to skopeo, the whole process (target {WALL} and {CPU}) | {ratio(ours, statistics.median)} | {ratio(ours, min)} |",
        f"| ratio to skopeo, the push alone | {ratio(alone, statistics.median)} | {ratio(alone, min)} |", "",
        f"Memory, largest resident size of a process, median: {peak:.1f} MB, a Python that does nothing {bare:.1f} MB: {peak - bare:.1f} MB over the interpreter's (target {MEMORY_MB}).", "",
        f"Pushed again, where everything is there: median {statistics.median(again):.0f} ms, 90th percentile {again[int(len(again) * 0.9)]:.0f} ms of {len(again)} (target {REPUSH_MS} ms); no write is sent.",
    ]) + "\n"  # fmt: skip


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=524)
    options = parser.parse_args()
    if not shutil.which("skopeo"):
        raise SystemExit("skopeo is not installed: apt-get install skopeo")
    made = report(measure(options.rounds, options.megabytes * 1_000_000), options.megabytes * 1_000_000)
    print(made)
    RESULTS.write_text(made)


if __name__ == "__main__":
    main()

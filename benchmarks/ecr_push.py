"""Push 524 MB in 8 layers to the local cloud's registry, next to `skopeo copy` to the same registry, in turns.

    ./run python benchmarks/ecr_push.py [--rounds 5] [--megabytes 524]

Each push is a process of its own, so that its processor time and its memory are its own (read from /proc: Linux). Prints a table and writes it to
benchmarks/results/ecr_push.md. The registry's own work is in the wall times of both.
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
from collections.abc import Iterable, Iterator, Sequence
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
# What a process of ours does: it says where its memory was before the push, and how long pushing again takes.
OURS = """
import json, sys, time
from helpers.aws import connect
from helpers.ecr import push
memory = lambda: int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
aws = connect()
aws.client("ecr")
imported, processor, started = memory(), time.process_time(), time.perf_counter()
push(aws, sys.argv[1], sys.argv[2], "1.0.0")
told = {"imported": imported, "pushed": memory(), "inside_s": time.perf_counter() - started, "inside_cpu_s": time.process_time() - processor, "whole_cpu_s": time.process_time(), "again_ms": []}
for _ in range(int(sys.argv[3])):
    started = time.perf_counter()
    push(aws, sys.argv[1], sys.argv[2], "1.0.0")
    told["again_ms"].append((time.perf_counter() - started) * 1000)
print(json.dumps(told))
"""
BARE = 'print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))'


@dataclass
class Took:
    """What one push took: wall and processor seconds of its process, and what it told."""

    wall: float
    cpu: float
    told: dict[str, Any]


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


def measure(rounds: int, size: int) -> tuple[list[Took], list[Took], float]:
    """The pushes of this project and of skopeo, in turns, and the memory of a bare interpreter in MB."""
    import boto3

    with tempfile.TemporaryDirectory(prefix="ecr-push-") as name:
        folder = Path(name)
        image = layout(folder / "image", size)
        cloud = clouds.up(folder / "cloud")
        os.environ.update({**cloud.environment(), "NO_PROXY": "127.0.0.1"})
        try:
            client, (host, auth) = boto3.client("ecr"), login(cloud, folder)
            ours, theirs = [], []
            for number in range(rounds):
                for kind in ("ours", "theirs") if number % 2 else ("theirs", "ours"):
                    client.create_repository(repositoryName=f"{kind}/{number}")
                    if kind == "ours":
                        ours.append(run([sys.executable, "-c", OURS, str(image), f"ours/{number}", str(REPUSHES)], dict(os.environ)))
                    else:
                        target = f"docker://{host}/theirs/{number}:1.0.0"
                        theirs.append(run(["skopeo", "--insecure-policy", "copy", "-q", "--authfile", str(auth), "--dest-tls-verify=false", f"oci:{image}", target], dict(os.environ)))
                    client.delete_repository(repositoryName=f"{kind}/{number}", force=True)
            bare = float(subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, check=True).stdout) / 1024
        finally:
            clouds.down(folder / "cloud")
    return ours, theirs, bare


def report(ours: Sequence[Took], theirs: Sequence[Took], bare: float, size: int) -> str:
    """The results as a page."""
    inside, own = [one.told["inside_s"] for one in ours], [one.told["inside_cpu_s"] for one in ours]
    again = sorted(ms for one in ours for ms in one.told["again_ms"][1:])
    imported, pushed = (statistics.median(one.told[name] for one in ours) / 1024 for name in ("imported", "pushed"))
    wall, cpu = min(inside) / min(one.wall for one in theirs), min(own) / min(one.cpu for one in theirs)
    median_wall = statistics.median(inside) / statistics.median(one.wall for one in theirs)
    median_cpu = statistics.median(own) / statistics.median(one.cpu for one in theirs)
    version = subprocess.run(["skopeo", "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    rows = [
        ("", "wall, s", "processor, s"),
        ("---", "---", "---"),
        ("this project, best", f"{min(inside):.2f}", f"{min(own):.2f}"),
        ("this project, median", f"{statistics.median(inside):.2f}", f"{statistics.median(own):.2f}"),
        ("skopeo, best", f"{min(one.wall for one in theirs):.2f}", f"{min(one.cpu for one in theirs):.2f}"),
        ("skopeo, median", f"{statistics.median(one.wall for one in theirs):.2f}", f"{statistics.median(one.cpu for one in theirs):.2f}"),
        ("ratio of the best", f"{wall:.2f} (target {WALL})", f"{cpu:.2f} (target {CPU})"),
        ("ratio of the medians", f"{median_wall:.2f}", f"{median_cpu:.2f}"),
    ]
    whole = min(one.wall - sum(one.told["again_ms"]) / 1000 for one in ours) / min(one.wall for one in theirs)
    whole_cpu = min(one.told["whole_cpu_s"] for one in ours) / min(one.cpu for one in theirs)
    return "\n".join([
        "# A push next to skopeo's", "",
        f"{date.today()}, {os.cpu_count()} cores ({platform.machine()}; load average {os.getloadavg()[0]:.1f} at the end), Python {platform.python_version()}, skopeo {version}.", "",
        f"{size / 1e6:,.0f} MB in {LAYERS} layers that do not compress, to an empty repository of the local cloud's registry, {len(ours)} rounds in turns. The registry runs on the",
        "same cores and hashes what comes in, for both. Of this project it is `push()`, from the login to the manifest read back and hashed; the start of Python and its",
        f"imports come on top: with them the best is {whole:.2f} of skopeo's wall time and {whole_cpu:.2f} of its processor time.", "",
        *(f"| {' | '.join(row)} |" for row in rows), "",
        f"Memory, largest resident size of a process: a bare interpreter {bare:.0f} MB; with boto3, this package and a session {imported:.0f} MB; after the push {pushed:.0f} MB. The push",
        f"itself takes {pushed - imported:.0f} MB (target {MEMORY_MB}) over the interpreter that has its imports, {pushed - bare:.0f} MB over the bare one.", "",
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
    made = report(*measure(options.rounds, options.megabytes * 1_000_000), options.megabytes * 1_000_000)
    print(made)
    RESULTS.write_text(made)


if __name__ == "__main__":
    main()

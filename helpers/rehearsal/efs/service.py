"""EFS in the local cloud: what MiniStack 1.5.33 lacks of it, its metrics, and the NFS server behind one mount target."""

from __future__ import annotations

import json
import random
import re
import socket
import time
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from helpers.rehearsal.cloud import ACCOUNT, BUNDLE_FILE, REGION
from helpers.rehearsal.stricter import Answer, Handler, refuse

NAMESPACE, NFS_PORT = "AWS/EFS", 2049
FILE_SYSTEM = re.compile(r"/2015-02-01/file-systems/(fs-[0-9a-f]+)")
LOCK_S = 24 * 3600
# A call, https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html
MOST_QUERIES, MOST_POINTS = 500, 100_800
READ_BY_MINUTE = {"DataReadIOBytes", "DataWriteIOBytes", "MetadataIOBytes", "PermittedThroughput", "BurstCreditBalance"}  # what the notebooks read; a minute costs memory
KEPT_S = 455 * 86_400
_asked: ContextVar[dict[str, Any]] = ContextVar("asked")
_last: dict[str, list[dict[str, Any]]] = {}  # the answer whose next page may be asked for: it is not worked out again for each


def install(handlers: dict[str, Handler], directory: Path) -> Efs:
    """Put the 24 hours' rule and the paging of metrics in MiniStack; returns what seeds file systems."""
    from ministack.services import cloudwatch

    handlers["elasticfilesystem"] = _locked(handlers["elasticfilesystem"])
    cloudwatch.TWO_WEEKS_SECONDS = KEPT_S
    cloudwatch._get_metric_data = _remembered(cloudwatch._get_metric_data)
    cloudwatch._cbor_ok, cloudwatch._json_ok = _paged(cloudwatch._cbor_ok), _paged(cloudwatch._json_ok)
    return Efs(directory)


class Efs:
    """Sizes and metrics of seeded file systems, and the server that one of them is mounted from."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._server, self._address = directory, None, ""

    def seed(self, asked: dict[str, Any]) -> dict[str, str]:
        """Give file systems their size and metrics, and lead the mount targets of one to a real NFS server where that can be had.

        `asked`: {"file_systems": {name: id}, "served": name, "folders": [...], "minutes": bool}: with minutes the metrics of two weeks are by the minute. Returns {"address", "missing"}: where the server
        is, and in a sentence why there is none.
        """
        from ministack.core.responses import request_scope

        served = asked["file_systems"][asked["served"]]
        missing = "" if self._server else self._serve(f"{served}.efs.{REGION}.amazonaws.com", asked["folders"])
        with request_scope(ACCOUNT, REGION):
            for name, identity in asked["file_systems"].items():
                _fill(name, identity, bool(asked.get("minutes")))
            _lead(served, self._address)
        return {"address": self._address, "missing": missing}

    def close(self) -> None:
        """End the server."""
        if self._server:
            self._server.stop()

    def _serve(self, host: str, folders: list[str]) -> str:
        """Start the server for a host name; returns why it does not run, or nothing."""
        from helpers.rehearsal.efs import nfs

        self._address = self._address or _free_address()
        try:
            self._server = nfs.NfsServer(self._directory / "efs", names=(host,), listen=(self._address, NFS_PORT))
        except nfs.NfsServerFailed as error:
            return str(error)
        for folder in ("", *folders):
            served = self._server.export / folder.strip("/")
            served.mkdir(parents=True, exist_ok=True)
            served.chmod(0o755)  # the cloud's own umask shuts everybody out
        with (self._directory / BUNDLE_FILE).open("a") as bundle:
            bundle.write("\n" + self._server.ca_file.read_text())
        return ""


def _fill(name: str, identity: str, minutes: bool) -> None:
    """Put the size of a file system and thirty days of metrics into MiniStack."""
    from ministack.services import cloudwatch, efs

    from helpers.rehearsal.efs import traces

    now, sizes = int(time.time()), traces.storage(name)
    size = {"Value": sizes["Total"], "ValueInStandard": sizes["Standard"], "ValueInIA": sizes["IA"], "ValueInArchive": sizes["Archive"]}
    efs._file_systems[identity]["SizeInBytes"] = {**size, "Timestamp": now}
    last, named = now // traces.HOUR_S - 1, {"FileSystemId": identity}
    hours = range(last - traces.HOURS + 1, last + 1)
    for metric, values in traces.metrics(name, last).items():
        for second, value in traces.datapoints(metric, values, last, minutes and metric in READ_BY_MINUTE):
            cloudwatch._store_datum(NAMESPACE, metric, named, second, "None", value, None, None, None)
    for storage_class, value in sizes.items():
        for hour in hours:
            where = {**named, "StorageClass": storage_class}
            cloudwatch._store_datum(NAMESPACE, "StorageBytes", where, hour * traces.HOUR_S, "Bytes", value, None, None, None)


def _lead(file_system: str, address: str) -> None:
    """Give the first mount target of a file system an address of this machine, where the server is."""
    from ministack.services import efs

    first = next(one for one in efs._mount_targets.values() if one["FileSystemId"] == file_system)
    first["IpAddress"] = address


def _free_address() -> str:
    """An address of the loopback whose NFS port is free; where the system has one address only, that one."""
    for _ in range(20):
        address = f"127.77.{random.randrange(1, 255)}.{random.randrange(1, 255)}"
        try:
            socket.create_server((address, NFS_PORT)).close()
        except OSError:
            continue
        return address
    return "127.0.0.1"


def _locked(inner: Handler) -> Handler:
    """For 24 hours after a switch to provisioned, or a change of its amount, it can neither be left nor be decreased.

    Source: https://docs.aws.amazon.com/efs/latest/ug/managing-throughput.html
    """
    changed: dict[str, float] = {}

    async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Answer:
        from ministack.services import efs

        named = FILE_SYSTEM.fullmatch(path)
        now = efs._file_systems.get(named[1]) if named and method == "PUT" else None
        if now is None:
            return await inner(method, path, headers, body, query)
        wanted, before = json.loads(body or b"{}"), now.get("ProvisionedThroughputInMibps", 0)
        mode, amount = wanted.get("ThroughputMode", now["ThroughputMode"]), wanted.get("ProvisionedThroughputInMibps", before)
        was = now["ThroughputMode"]
        if mode == "elastic" and now["PerformanceMode"] == "maxIO":
            return refuse("BadRequest", "Elastic throughput is not supported with the Max I/O performance mode.", 400)
        if mode == "provisioned" and not amount:
            return refuse("BadRequest", "ProvisionedThroughputInMibps is required for provisioned throughput.", 400)
        lowers = was == "provisioned" and (mode != "provisioned" or amount < before)
        if lowers and time.time() - changed.get(named[1], 0) < LOCK_S:
            return refuse("TooManyRequests", "Throughput can be decreased or its mode changed 24 hours after the last change.", 429)
        answer = await inner(method, path, headers, body, query)
        if answer[0] == 202 and mode == "provisioned" and (mode, amount) != (was, before):
            changed[named[1]] = time.time()
        return answer

    return handle


def _remembered(inner: Callable[..., Any]) -> Callable[..., Any]:
    """GetMetricData with its limits: how its answer is to be paged is kept for the encoder."""

    def answer(params: Any, content: dict[str, Any], is_cbor: bool, is_json: bool = False) -> Any:
        from ministack.services import cloudwatch

        if len(content.get("MetricDataQueries", [])) > MOST_QUERIES:
            told = f"The collection MetricDataQueries must not have a size greater than {MOST_QUERIES}."
            return cloudwatch._error("ValidationError", told, 400, use_json=is_json, use_cbor=is_cbor)
        token = _asked.set(content)
        try:
            if content.get("NextToken") and (known := _last.get(_query(content))) is not None:
                return (cloudwatch._cbor_ok if is_cbor else cloudwatch._json_ok)({"MetricDataResults": known})
            return inner(params, content, is_cbor, is_json)
        finally:
            _asked.reset(token)

    return answer


def _paged(encode: Callable[..., Any]) -> Callable[..., Any]:
    """An encoder of answers that cuts the points of GetMetricData into pages, the newest first as on AWS."""

    def encoded(content: dict[str, Any], *more: Any) -> Any:
        asked = _asked.get(None)
        if asked is not None and "MetricDataResults" in content:
            _last.clear()
            _last[_query(asked)] = content["MetricDataResults"]
            content = page(content["MetricDataResults"], asked)
        return encode(content, *more)

    return encoded


def _query(asked: dict[str, Any]) -> str:
    """What is asked for, whatever page of it."""
    return repr({name: value for name, value in asked.items() if name != "NextToken"})


def page(results: list[dict[str, Any]], asked: dict[str, Any]) -> dict[str, Any]:
    """Return one page of GetMetricData: so many points of all results from NextToken on, and the token of the rest."""
    start, most = int(asked.get("NextToken") or 0), min(int(asked.get("MaxDatapoints") or MOST_POINTS), MOST_POINTS)
    shown, at = [], 0
    for one in results:
        size, order = len(one["Values"]), 1 if asked.get("ScanBy") == "TimestampAscending" else -1
        low, high = max(0, start - at), min(size, start + most - at)
        if low < high or (size == 0 and start == 0):
            part = {name: one[name][::order][low:high] for name in ("Timestamps", "Values")}
            shown.append({**one, **part, "StatusCode": one["StatusCode"] if high == size else "PartialData"})
        at += size
    rest = {"NextToken": str(start + most)} if at > start + most else {}
    return {"MetricDataResults": shown, **rest}

"""The rehearsal's application as its own process, and what tests do with it."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from helpers.rehearsal import engines, scenario, settings
from helpers.rehearsal.engines import Engine
from helpers.rehearsal.scenario import Access
from helpers.rehearsal.servers import Server

Until = Callable[..., Any]
SESSIONS = 100


class Running:
    """An application with a bucket and parameters of its own, and the server that it begins with.

    With `endpoint` it begins there instead; `arguments` are more options of its command line, `place` another
    form of setting than an SSM parameter, and `environment` what it has beside the cloud's variables.
    """

    def __init__(
        self,
        access: Access,
        directory: Path,
        until: Until,
        *,
        endpoint: str = "",
        place: str = "",
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.access, self.directory, self.until = access, directory, until
        self.arguments, self.environment = arguments, environment or {}
        self.bucket = f"application-{uuid.uuid4().hex[:8]}"
        self.place, self.read_only_parameter = place or f"/{self.bucket}/endpoint", f"/{self.bucket}/read-only-until"
        self.ledger = directory / "ledger.json"
        self.servers = [] if endpoint else [Server(engines.available()[0], directory / "server-0")]
        scenario.ensure_bucket(access, self.bucket)
        self.point_at(endpoint or self.server)
        self.process = self._start()
        self.wait(lambda report: report["acknowledged_writes"] > SESSIONS)

    @property
    def server(self) -> Server:
        return self.servers[0]

    def another(self, engine: Engine | None = None, rdb: Path | None = None) -> Server:
        name = self.directory / f"server-{len(self.servers)}"
        self.servers.append(Server(engine or engines.pair()[1], name, rdb=rdb))
        return self.servers[-1]

    def report(self) -> dict[str, Any]:
        return scenario.read_report(self.access, self.bucket)

    def wait(self, condition: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Return the first report that fulfils a condition."""
        return self.until(lambda: (report := self.report()) and condition(report) and report)

    def audited(self) -> dict[str, Any]:
        """Return a report with an audit that began now."""
        asked = time.time()
        return self.wait(lambda report: (report["audited_at"] or 0) >= asked)

    def point_at(self, where: Server | str) -> None:
        endpoint = f"127.0.0.1:{where.port}" if isinstance(where, Server) else where
        settings.write(self.access.client, self.place, endpoint)

    def read_only_for(self, seconds: float) -> None:
        until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
        value = until.isoformat(timespec="milliseconds")
        self.access.client("ssm").put_parameter(Name=self.read_only_parameter, Value=value, Type="String", Overwrite=True)

    def end(self) -> dict[str, Any]:
        """Ask the application to end, and return the report that it leaves."""
        self.process.terminate()
        assert self.process.wait(10) == 0
        return json.loads(self.ledger.read_text())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for server in self.servers:
            server.stop()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "helpers.rehearsal.application", "--bucket", self.bucket, "--sessions", str(SESSIONS)]
        command += ["--parameter", self.place, "--read-only-parameter", self.read_only_parameter, "--ledger", str(self.ledger)]
        environment = scenario.application_environment({**self.access.variables, **self.environment})
        with (self.directory / "application.log").open("wb") as log:
            return subprocess.Popen([*command, *self.arguments], env=environment, stderr=log)

"""A real NFSv4.1 server behind TLS on the loopback, as a mount target is: Debian's nfs-ganesha, with stunnel in front of it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

# Imported from within the rehearsal only, which is what the rehearsal extra is installed for.
import trustme

from helpers.rehearsal.servers import guard

HOST = "127.0.0.1"
PLUGINS = Path("/usr/lib/x86_64-linux-gnu/ganesha"), Path("/usr/lib/aarch64-linux-gnu/ganesha"), Path("/usr/lib/ganesha")
PACKAGES = "nfs-ganesha nfs-ganesha-vfs stunnel4"  # of Debian
READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0
LEASE_S = 10
GANESHA = """\
NFS_CORE_PARAM {{
    Protocols = 4; Bind_addr = {host}; NFS_Port = {port}; Plugins_Dir = "{plugins}";
    Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false;
}}
NFSv4 {{ Minor_Versions = 1; Graceless = true; Grace_Period = 1; Lease_Lifetime = {lease}; Only_Numeric_Owners = true; RecoveryRoot = "{recovery}"; }}
EXPORT {{
    Export_Id = 1; Path = "{export}"; Pseudo = "/"; Access_Type = RW; Squash = No_Root_Squash; SecType = sys, none; Protocols = 4; Transports = TCP;
    FSAL {{ Name = VFS; }}
}}
LOG {{ Default_Log_Level = EVENT; }}
"""
STUNNEL = """\
foreground = yes
pid =
debug = notice
output = {log}
[nfs]
accept = {tls_host}:{tls_port}
connect = {host}:{port}
cert = {certificate}
sslVersionMin = TLSv1.2
"""


class NfsServerFailed(RuntimeError):
    """A server process that did not start; the message ends with its own log."""


def missing() -> str:
    """What keeps this machine from running the server, in a sentence; empty where nothing does."""
    absent = [name for name in ("ganesha.nfsd", "stunnel") if _program(name) is None]
    if absent or _plugins() is None:
        return f"No {' and no '.join(absent) or 'libfsalvfs.so'} is installed here: apt-get install {PACKAGES}."
    return "" if os.geteuid() == 0 else "nfs-ganesha opens files by handle, which only root may."


class NfsServer:
    """One export with TLS on `tls_port` and without it on `port`, both answering when the constructor returns.

    `directory` holds the configuration, the logs, the certificates and `export`, what is served as `/`. The certificate is of
    `names`; `ca_file` is the authority to trust; `listen` is the address and port for TLS where they matter. Ends with `stop` or as a context manager.
    Raises NfsServerFailed where the machine lacks the programs, or they do not start.
    """

    def __init__(self, directory: Path, names: Sequence[str] = (HOST, "localhost"), listen: tuple[str, int] | None = None) -> None:
        if reason := missing():
            raise NfsServerFailed(reason)
        self.directory, self.export, self.ca_file = directory, directory / "export", directory / "ca.pem"
        for made in (self.export, directory / "recovery"):
            made.mkdir(parents=True, exist_ok=True)
        self.port, self.tls_port = _free_ports(2)
        self.tls_host = HOST
        if listen:
            self.tls_host, self.tls_port = listen
        self._issue(names)
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            self._start_ganesha()
            self._start_stunnel()
        except BaseException:
            self.stop()
            raise

    @property
    def pids(self) -> list[int]:
        """The ids of the two processes, the NFS server's first."""
        return [process.pid for process in self._processes]

    def stop_tunnel(self) -> None:
        """End stunnel alone: what a client sees when its tunnel dies."""
        _end(self._processes[1])

    def stop(self) -> None:
        """End both processes: politely, then by force. Harmless when they have ended."""
        for process in reversed(self._processes):
            _end(process)

    def __enter__(self) -> NfsServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _issue(self, names: Sequence[str]) -> None:
        authority = trustme.CA(organization_name="The local cloud of aws-runbooks")
        authority.cert_pem.write_to_path(self.ca_file)
        leaf = self.directory / "server.pem"
        leaf.touch(mode=0o600)
        leaf.write_bytes(authority.issue_cert(*names).private_key_and_cert_chain_pem.bytes())

    def _start_ganesha(self) -> None:
        config = self.directory / "ganesha.conf"
        config.write_text(
            GANESHA.format(host=HOST, port=self.port, plugins=_plugins(), lease=LEASE_S, recovery=self.directory / "recovery", export=self.export)
        )
        log = self.directory / "ganesha.log"
        self._run([_program("ganesha.nfsd"), "-F", "-f", config, "-L", log, "-p", self.directory / "ganesha.pid"], self.port, log)

    def _start_stunnel(self) -> None:
        config, log = self.directory / "stunnel.conf", self.directory / "stunnel.log"
        config.write_text(STUNNEL.format(host=HOST, port=self.port, tls_host=self.tls_host, tls_port=self.tls_port, certificate=self.directory / "server.pem", log=log))
        self._run([_program("stunnel"), config], self.tls_port, log, self.tls_host)

    def _run(self, command: Sequence[object], port: int, log: Path, host: str = HOST) -> None:
        process = guard.start([str(part) for part in command], self.directory)
        self._processes.append(process)
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not _accepts(port, host):
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(errors="replace")[-500:] if log.exists() else "(no log)"
                raise NfsServerFailed(f"{command[0]} does not answer on port {port}: {said}")
            time.sleep(0.05)


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin")


def _plugins() -> Path | None:
    return next((place for place in PLUGINS if (place / "libfsalvfs.so").exists()), None)


def _free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on, all different."""
    held = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def _accepts(port: int, host: str = HOST) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    guard.forget(process.pid)

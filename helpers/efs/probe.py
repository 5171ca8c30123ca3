"""Where the way to a file system ends: DNS, TCP, TLS, RPC, NFSv4.1 and the path, one after the other, without root."""

from __future__ import annotations

import contextlib
import html
import queue
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from helpers.efs.diagnose import EXPLAINED
from helpers.efs.nfs_wire import DENIED, Client, NfsError, NotRpc

if TYPE_CHECKING:
    import pandas as pd

NFS_PORT = 2049
LAYER_LIMIT, TOTAL_LIMIT = 2.0, 2.8  # seconds
LAYERS = ("DNS", "TCP", "TLS", "RPC", "NFSv4.1", "path")
HOST_MISMATCHES = {62, 64}  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
NO_SUCH_PATH = "Mount `/` and make the directory, or correct the path."
TRUST = "amazon-efs-utils brings efs-utils.crt; elsewhere the system's authorities hold Amazon's."
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Layer:
    """One layer of a probe: passed, failed, or None where it was not reached; milliseconds; what was found; what to do."""

    layer: str
    ok: bool | None
    ms: float
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Probe:
    """What a probe found: a row a layer, and the code of the first failure, OK where there is none."""

    target: str
    rows: tuple[Layer, ...]
    code: str

    @property
    def ok(self) -> bool:
        """Whether every layer passed."""
        return self.code == "OK"

    @property
    def ms(self) -> float:
        """Milliseconds in all."""
        return sum(row.ms for row in self.rows)

    def table(self) -> pd.DataFrame:
        """The rows as a DataFrame: outcome, layer, ms, found, remedy."""
        import pandas as pd  # costs a second, which a script need not pay

        rows = [(_outcome(row), row.layer, f"{row.ms:.1f}" if row.ok is not None else "", row.found, row.remedy) for row in self.rows]
        return pd.DataFrame(rows, columns=["outcome", "layer", "ms", "found", "remedy"])

    def _repr_html_(self) -> str:
        import pandas as pd

        with pd.option_context("display.max_colwidth", None):
            rows = self.table().to_html(index=False, border=0, justify="left")
        return f"<b>{html.escape(self.target)}</b>: {html.escape(self.code)} in {self.ms:.0f} ms{rows}"

    def __str__(self) -> str:
        lines = [f"{self.target}: {self.code} in {self.ms:.0f} ms"]
        for row in self.rows:
            ms = f"{row.ms:7.1f} ms" if row.ok is not None else " " * 10
            lines.append(f"  {_outcome(row):4}  {row.layer:7}  {ms}  {row.found}")
            lines += [f"        remedy: {row.remedy}"] if row.remedy else []
        return "\n".join(lines)


class _Failed(Exception):
    """A layer that failed: its code, what was found, and a remedy where it is not the code's own."""

    def __init__(self, code: str, found: str, remedy: str = "") -> None:
        self.code, self.found, self.remedy = code, found, remedy or EXPLAINED[code][1]
        super().__init__(found)


def probe(
    host: str,
    port: int = NFS_PORT,
    path: str = "/",
    *,
    tls: bool = True,
    ca_file: str | None = None,
    server_name: str | None = None,
) -> Probe:
    """Go to `path` on an NFS server layer by layer, and stop at the first that fails; takes less than 3 s.

    `server_name` is the name the certificate must be of where `host` is an address or a tunnel; `ca_file` holds the authorities
    (PEM) where they are not the system's. Nothing is written, and nothing mounted. Access points and IAM identities travel in a
    client certificate, which the probe has not: it sees what an anonymous client sees.
    https://docs.aws.amazon.com/efs/latest/ug/troubleshooting-efs-mounting.html
    """
    walk = _Walk(time.monotonic() + TOTAL_LIMIT)
    code = "OK"
    try:
        _go(walk, host, port, path, tls, ca_file, server_name or host)
    except _Failed as failure:
        code = failure.code
    finally:
        walk.close()
    reached = {row.layer for row in walk.rows}
    rest = [Layer(name, None, 0.0, "not reached" if name != "TLS" or tls else "not asked for") for name in LAYERS if name not in reached]
    rows = sorted(walk.rows + rest, key=lambda row: LAYERS.index(row.layer))
    return Probe(f"{host}:{port}:{path}", tuple(rows), code)


def _go(walk: _Walk, host: str, port: int, path: str, tls: bool, ca_file: str | None, name: str) -> None:
    addresses = walk.step("DNS", lambda: _resolve(host, port, walk.seconds()))
    connection = walk.step("TCP", lambda: _connect(addresses, walk.seconds()))
    walk.opened = connection
    if tls:
        connection = walk.step("TLS", lambda: _secure(connection, ca_file, name, walk.seconds()))
        walk.opened = connection
    client = Client(connection, walk.end)
    walk.step("RPC", lambda: _null(client))
    walk.step("NFSv4.1", lambda: _session(client))
    try:
        walk.step("path", lambda: _follow(client, path))
    finally:
        with contextlib.suppress(NfsError, NotRpc, OSError, struct.error):
            client.end_session()


class _Walk:
    """The layers passed so far, the connection to close at the end, and the time that is left."""

    def __init__(self, end: float) -> None:
        self.end, self.rows, self.opened = end, [], None

    def seconds(self) -> float:
        """How long the next layer may take."""
        return max(0.05, min(LAYER_LIMIT, self.end - time.monotonic()))

    def step(self, layer: str, act: Callable[[], tuple[Answer, str]]) -> Answer:
        """Do one layer, which returns its answer and what was found; keep its row."""
        started = time.monotonic()
        try:
            answer, found = act()
        except _Failed as failure:
            self.rows.append(Layer(layer, False, _since(started), failure.found, failure.remedy))
            raise
        self.rows.append(Layer(layer, True, _since(started), found))
        return answer

    def close(self) -> None:
        if self.opened is not None:
            self.opened.close()


def _resolve(host: str, port: int, seconds: float) -> tuple[list[Any], str]:
    """Resolve in a thread of its own: the system's resolver knows no time limit."""
    answers: queue.Queue[Any] = queue.Queue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True, name="probe-dns").start()
    try:
        found = answers.get(timeout=seconds)
    except queue.Empty:
        raise _Failed("DNS_UNRESOLVED", f"no answer for {host} in {seconds:.0f} s", "Check this host's name servers: the VPC's resolver is at its base address plus two.") from None
    if isinstance(found, Exception):
        raise _Failed("DNS_UNRESOLVED", f"{host}: {getattr(found, 'strerror', None) or found}")
    return found, ", ".join(dict.fromkeys(entry[4][0] for entry in found))


def _connect(addresses: list[Any], seconds: float) -> tuple[socket.socket, str]:
    """The first address that accepts; else the failure that says the most: refused, no route, silence."""
    failures, end = [], time.monotonic() + seconds
    for family, kind, protocol, _, address in addresses:
        left = end - time.monotonic()
        if left <= 0:
            break
        connection = socket.socket(family, kind, protocol)
        connection.settimeout(left)
        try:
            connection.connect(address)
            return connection, f"connected to {address[0]}:{address[1]}"
        except OSError as error:
            connection.close()
            failures.append(_not_connected(error, f"{address[0]}:{address[1]}", left))
    raise min(failures, key=lambda failure: ("TCP_REFUSED", "TCP_TIMEOUT_SG_OR_ROUTE", "TCP_UNREACHABLE").index(failure.code))


def _not_connected(error: OSError, where: str, seconds: float) -> _Failed:
    if isinstance(error, TimeoutError):
        return _Failed("TCP_TIMEOUT_SG_OR_ROUTE", f"no answer from {where} in {seconds:.1f} s", EXPLAINED["TCP_TIMEOUT_SG_OR_ROUTE"][1].split(" Run the probe")[0])
    if isinstance(error, ConnectionRefusedError):
        return _Failed("TCP_REFUSED", f"{where} refuses connections")
    return _Failed("TCP_UNREACHABLE", f"{where}: {error.strerror or error}")


def _secure(connection: socket.socket, ca_file: str | None, name: str, seconds: float) -> tuple[socket.socket, str]:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise _Failed("TLS_CA_UNTRUSTED", f"the authorities in {ca_file} cannot be read: {error.strerror or error}", TRUST) from error
    connection.settimeout(seconds)
    try:
        secured = context.wrap_socket(connection, server_hostname=name)
    except ssl.SSLCertVerificationError as error:
        code = "TLS_HOSTNAME_MISMATCH" if error.verify_code in HOST_MISMATCHES else "TLS_CA_UNTRUSTED"
        raise _Failed(code, error.verify_message.rstrip(".")) from error
    except TimeoutError as error:
        raise _Failed("TLS_NOT_SPOKEN", f"no answer to the TLS greeting in {seconds:.1f} s") from error
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        raise _Failed("TLS_NOT_SPOKEN", f"the port does not speak TLS: {reason}") from error
    return secured, f"{secured.version()}, certificate of {_names(secured)}"


def _names(secured: ssl.SSLSocket) -> str:
    certificate = secured.getpeercert() or {}
    return ", ".join(name for _, name in certificate.get("subjectAltName", ())) or "(no name)"


def _null(client: Client) -> tuple[None, str]:
    try:
        client.null()
    except NotRpc as error:
        raise _Failed("RPC_NOT_NFS", str(error)) from error
    except OSError as error:
        raise _Failed("RPC_NOT_NFS", f"no answer to an RPC call: {error.strerror or error}") from error
    return None, "NFS 4 answers a NULL call"


def _session(client: Client) -> tuple[None, str]:
    name = _asked(client.open_session)
    return None, "session opened" + (f" with {name}" if name.isprintable() and name else "")


def _follow(client: Client, path: str) -> tuple[None, str]:
    handle, walked = _asked(client.root), ""
    for name in [part for part in path.split("/") if part]:
        try:
            handle = _asked(lambda at=handle, name=name: client.lookup(at, name))
        except _Failed as failure:
            kind = {"REMOTE_PATH_MISSING": "does not exist"}.get(failure.code, f"cannot be entered: {failure.found}")
            remedy = NO_SUCH_PATH if failure.code == "REMOTE_PATH_MISSING" else failure.remedy
            raise _Failed(failure.code, f"{name!r} in {walked or '/'} {kind}", remedy) from failure
        walked += f"/{name}"
    found = _asked(lambda: client.attributes(handle))
    if not found.startswith("directory"):
        raise _Failed("REMOTE_PATH_MISSING", f"{walked or '/'} is no directory but a {found}")
    return None, f"{walked or '/'} is a {found}"


def _asked(ask: Callable[[], Answer]) -> Answer:
    """The answer to an NFS call, its failures as those of a layer."""
    try:
        return ask()
    except NfsError as error:
        code = "POLICY_DENIED" if error.status in DENIED else "REMOTE_PATH_MISSING" if error.status in (2, 20) else "NFS_REFUSED"
        raise _Failed("NFS_VERSION_UNSUPPORTED" if error.status == 10021 else code, str(error)) from error
    except (NotRpc, OSError, struct.error) as error:
        raise _Failed("NFS_REFUSED", f"no answer to an NFS call: {error}") from error


def _outcome(row: Layer) -> str:
    return {True: "pass", False: "fail", None: "-"}[row.ok]


def _since(started: float) -> float:
    return (time.monotonic() - started) * 1000

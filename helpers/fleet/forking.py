"""Start a fork server, ask it for kernels, and look after one: what a client needs, with the standard library alone."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time

STARTUP = 120.0  # seconds that the imports may take, on a busy machine


def start_server(path: str, *, lifeline: bool, idle_s: float | None = None, module: str = "helpers.fleet.fork_server") -> subprocess.Popen:
    """Start a fork server, the `main` of a module, on the socket `path`; wait until it is ready. Raises `OSError` with what it said last."""
    code = f"from {module} import main; main({path!r}, {idle_s!r})"
    with tempfile.TemporaryFile("w+") as told:
        server = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE if lifeline else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=told,
            text=True,
            start_new_session=True,  # Ctrl-C in the terminal is for the one who runs the runs
        )
        if server.stdout.readline().strip() != "ready":
            server.kill()
            server.wait()
            told.seek(0)
            raise OSError(f"the fork server did not start: {(told.read().strip().splitlines() or ['it said nothing'])[-1]}")
    return server


def end_server(server: subprocess.Popen) -> None:
    """End a server that was started with a lifeline, and with it every kernel that is left."""
    server.stdin.close()
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    server.stdout.close()


def ask(connection: socket.socket, argv: list[str], env: dict[str, str], cwd: str, files: list[int]) -> tuple[ForkedKernel | None, str]:
    """Ask a fork server for a kernel: the kernel, or None and the reason why it has to start cold."""
    request = json.dumps({"argv": argv, "env": env, "cwd": cwd}).encode() + b"\n"
    sent = socket.send_fds(connection, [request], files)
    if request[sent:]:  # to send nothing fails, too, where the server has refused and closed already
        connection.sendall(request[sent:])
    connection.settimeout(STARTUP)
    answer = json.loads(_line(connection))
    if "pid" not in answer:
        connection.close()
        return None, answer.get("cold", "the server did not answer")
    return ForkedKernel(connection, answer["pid"]), ""


def _line(connection: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        one = connection.recv(1)  # what follows the line is another one
        if not one:
            raise OSError("the fork server has gone")
        data += one
    return data


class ForkedKernel:
    """A kernel that is a child of the fork server, in the words of `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self._connection, self.pid = connection, pid
        self.returncode: int | None = None
        self._said = b""
        connection.setblocking(False)

    def fileno(self) -> int:
        """The socket, which can be read when the kernel has ended."""
        return self._connection.fileno()

    def poll(self) -> int | None:
        """The exit code as Popen has it, None while the kernel runs; -9 where the server died, and the kernel with it."""
        while self.returncode is None:
            try:
                more = self._connection.recv(256)
            except BlockingIOError:
                return None
            except OSError:
                more = b""
            self._said += more
            if self._said.endswith(b"\n"):
                self.returncode = json.loads(self._said)["exit"]
            elif not more:
                self.returncode = -signal.SIGKILL
        self._connection.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the kernel has ended. Raises `subprocess.TimeoutExpired`."""
        end = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("kernel", timeout or 0)
            time.sleep(0.005)
        return self.returncode if self.returncode is not None else -signal.SIGKILL

    def send_signal(self, number: int) -> None:
        """Signal the kernel's process group, by the server: it knows whether the process is still the kernel."""
        if self.poll() is None:
            with contextlib.suppress(OSError):
                self._connection.send(bytes([number]))

    def kill(self) -> None:
        """End the kernel at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask the kernel to end."""
        self.send_signal(signal.SIGTERM)

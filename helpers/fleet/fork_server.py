"""A process that has imported what notebooks import, and forks a fresh kernel for whoever asks over its socket.

It has one thread and keeps it that way: a thread is not carried over by fork, and locks that it held would stay
locked. Where there is another thread all the same, the one who asks is told to start a cold kernel.

A connection stands for one kernel. The client sends a line of JSON (`argv`, `env`, `cwd`) with the three standard
files; the answer is `{"pid": ...}` or `{"cold": reason}`, and `{"exit": code}` when the kernel has ended. Each byte that
the client sends later is a signal for the kernel. A client that goes away takes its kernel with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LARGEST = 1 << 22  # bytes of a request; an environment is some kilobytes
PATIENCE = 20.0  # seconds that a client may take to send one, on a busy machine

# What the imports have read from the environment: a kernel that is asked for with others starts cold.
READ_AT_IMPORT = (
    "BOTO", "DYLD_", "GOTO_", "HOME", "IPYTHON", "JUPYTER", "LANG", "LC_", "LD_", "MATPLOTLIB", "MKL_", "MPL", "NUMBA_", "NUMEXPR_", "NPY_",
    "OMP_", "OPENBLAS_", "PANDAS", "PYTHON", "XDG_",
)  # fmt: skip


@dataclass
class Request:
    """What a client asks for: the arguments of ipykernel, the whole environment, the folder and the standard files."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    files: list[int]


def threads() -> int:
    """How many threads this process has, by the kernel's own count: those of C libraries too."""
    return len(os.listdir("/proc/self/task"))


class Server:
    """Forks kernels until its client is gone (`lifeline`), or until nobody has asked for `idle_s` seconds."""

    def __init__(self, listener: socket.socket, names: tuple[str, ...], environment: dict[str, str], *, lifeline: int | None = None, idle_s: float | None = None) -> None:
        self._listener, self._lifeline, self._idle_s = listener, lifeline, idle_s
        self._modules, self._environment = names, _of_imports(environment)
        self._kernels: dict[int, socket.socket] = {}

    def serve(self) -> Request | None:
        """Serve until the end and return None; in a forked process, return the request that it has to become."""
        self._woken, self._wake = os.pipe()
        for end in (self._woken, self._wake):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        # poll, not epoll: the set that epoll watches would be shared with every kernel
        self._selector = selectors.PollSelector()
        for source in (self._listener, self._woken, *([] if self._lifeline is None else [self._lifeline])):
            self._selector.register(source, selectors.EVENT_READ)
        quiet_since = time.monotonic()
        while True:
            ready = [key.fileobj for key, _ in self._selector.select(None if self._idle_s is None else self._idle_s / 4)]
            for source in ready:
                if source == self._lifeline:
                    return self._end()
                if source is self._listener:
                    request = self._answer()
                    if request:
                        return request
                elif source == self._woken:
                    os.read(self._woken, 4096)
                elif isinstance(source, socket.socket):
                    self._signal(source)
            self._reap()
            if ready or self._kernels:
                quiet_since = time.monotonic()
            elif self._idle_s is not None and time.monotonic() - quiet_since > self._idle_s:
                return self._end()

    def _answer(self) -> Request | None:
        """Fork for the next client; returns the request in the forked process, None in the server."""
        connection, _ = self._listener.accept()
        connection.settimeout(PATIENCE)
        files: list[int] = []
        try:
            request = _receive(connection, files)
            reason = self._refusal(request)
            pid = 0 if reason else os.fork()
        except (OSError, ValueError, KeyError) as error:
            request, reason, pid = None, f"the request could not be read: {error}", 0
        if request and not reason and pid == 0:
            self._leave(connection)
            return request
        for file in files:
            os.close(file)
        if reason:
            _tell(connection, cold=reason)
            connection.close()
        elif _tell(connection, pid=pid):
            self._kernels[pid] = connection
            self._selector.register(connection, selectors.EVENT_READ)
        else:
            _kill(pid, signal.SIGKILL)
            self._kernels[pid] = connection
        return None

    def _refusal(self, request: Request) -> str:
        """Why a fork of this process would not be what a cold kernel is; empty where it would."""
        if threads() != 1:
            return f"the server has {threads()} threads"
        mine, asked = self._environment, _of_imports(request.env)
        other = sorted(name for name in {**mine, **asked} if mine.get(name) != asked.get(name))
        if other:
            return f"{', '.join(other)} differ"
        folder = Path(request.cwd)
        if (folder / "matplotlibrc").exists():
            return "the folder has a matplotlibrc"
        hidden = [name for name in self._modules if _hides(folder, name)]
        return f"the folder has another {', '.join(hidden)}" if hidden else ""

    def _leave(self, connection: socket.socket) -> None:
        """In the forked process: let go of what is the server's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        for one in (self._listener, connection, *self._kernels.values()):
            one.close()
        for end in (self._woken, self._wake):
            os.close(end)
        self._kernels.clear()

    def _signal(self, connection: socket.socket) -> None:
        """Pass on what a client has sent; a client that has gone takes its kernel with it."""
        pid = next(pid for pid, one in self._kernels.items() if one is connection)
        try:
            numbers = connection.recv(64)
        except OSError:
            numbers = b""
        if not numbers:
            self._selector.unregister(connection)
        for number in numbers or bytes([signal.SIGKILL]):
            _kill(pid, number)

    def _reap(self) -> None:
        """Tell the clients of the kernels that have ended how they did."""
        while self._kernels:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            connection = self._kernels.pop(pid)
            _tell(connection, exit=os.waitstatus_to_exitcode(status))
            if connection in self._selector.get_map():
                self._selector.unregister(connection)
            connection.close()

    def _end(self) -> None:
        """End every kernel, and wait for it."""
        for pid in self._kernels:
            _kill(pid, signal.SIGKILL)
        for pid in self._kernels:
            os.waitpid(pid, 0)


def _receive(connection: socket.socket, files: list[int]) -> Request:
    """Read a request; the files that came with it are put into `files` in any case."""
    data, received, _, _ = socket.recv_fds(connection, 1 << 16, 3)
    files.extend(received)
    while not data.endswith(b"\n"):
        more = connection.recv(1 << 16)
        if not more or len(data) > LARGEST:
            raise ValueError("it is cut short" if not more else "it is too long")
        data += more
    asked = json.loads(data)
    if len(files) != 3:
        raise ValueError("three files belong to it")
    return Request(list(asked["argv"]), dict(asked["env"]), asked["cwd"], files)


def _tell(connection: socket.socket, **answer: Any) -> bool:
    """Send a line; False where nobody is there any more."""
    try:
        connection.sendall(json.dumps(answer).encode() + b"\n")
    except OSError:
        return False
    return True


def _kill(pid: int, number: int) -> None:
    """Signal a kernel with the processes that it has started; one that is not yet a group of its own, alone."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        try:
            os.kill(pid, number)
        except ProcessLookupError:  # pragma: no cover - it is ours until it is reaped
            pass


def _of_imports(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(READ_AT_IMPORT)}


def _hides(folder: Path, name: str) -> bool:
    """True where a kernel in `folder` would import another module of that name than this process has."""
    for here in (folder / f"{name}.py", folder / name / "__init__.py"):
        if here.exists():
            loaded = getattr(sys.modules.get(name), "__file__", None)
            return not loaded or not here.samefile(loaded)
    return False


def main(path: str, idle_s: float | None = None) -> None:
    """Import, then listen on the Unix socket `path`; says `ready` on its output. In a forked process, be a kernel."""
    while "" in sys.path:
        sys.path.remove("")  # a kernel looks into its own folder first, not into the server's
    before = dict(os.environ)
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # else NumPy starts threads
    from helpers.fleet import preload

    request = serve(path, preload.load(), before, idle_s)
    from helpers.fleet import fork_child

    fork_child.be_a_kernel(request)


def serve(path: str, names: tuple[str, ...], environment: dict[str, str], idle_s: float | None = None) -> Request:
    """Listen until the end, which ends the process; returns in forked processes alone, with what each has to become.

    `names` are the modules that were imported, `environment` is what this process began with. Without `idle_s` the
    server ends when its standard input does.
    """
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    os.chmod(path, 0o600)
    listener.listen(128)
    print("ready", flush=True)
    lifeline = None if idle_s else 0
    request = Server(listener, names, environment, lifeline=lifeline, idle_s=idle_s).serve()
    if request is None:
        os.unlink(path)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(path))  # a client that was killed leaves its folder, which holds nothing else
        os._exit(0)  # nothing that the imports want to say at the end is the server's
    return request

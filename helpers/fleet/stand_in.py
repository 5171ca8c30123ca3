"""The process that Jupyter takes for the kernel, where a kernelspec starts warm ones: it passes signals on and ends as the kernel does.

    python -m helpers.fleet.stand_in -f CONNECTION_FILE

The fork server is shared by all of a user, starts with the first kernel and ends when nobody has asked for ten minutes. Where it
cannot fork what a cold kernel would be, this process becomes a cold kernel itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import select
import signal
import socket
import sys
import tempfile
from pathlib import Path

from helpers.fleet.forking import ForkedKernel, ask, start_server

IDLE_S = 600.0
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def main(argv: list[str]) -> int:
    """Run a kernel with ipykernel's arguments; returns its exit code."""
    kernel = _fork(argv) if sys.platform == "linux" else None
    if kernel is None:
        os.execv(sys.executable, [sys.executable, "-m", "ipykernel_launcher", *argv])
    for number in PASSED_ON:
        signal.signal(number, lambda number, _: kernel.send_signal(number))
    while kernel.poll() is None:
        select.select([kernel], [], [], 60)
    code = kernel.returncode or 0
    return 128 - code if code < 0 else code


def _fork(argv: list[str]) -> ForkedKernel | None:
    try:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(_server())
        return ask(connection, argv, dict(os.environ), os.getcwd(), [0, 1, 2])[0]
    except (OSError, ValueError):
        return None


def _server() -> str:
    """The socket of the user's server, which is started where none runs. Raises `OSError` where it cannot, or is not the user's."""
    folder = Path(tempfile.gettempdir()) / f"runbook-fork-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o077:
        raise PermissionError(f"{folder} is not this user's alone")
    path = folder / _what_it_imports()
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as trial:
            if trial.connect_ex(str(path)) == 0:
                return str(path)
        path.unlink(missing_ok=True)
        start_server(str(path), lifeline=False, idle_s=IDLE_S)
    return str(path)


def _what_it_imports() -> str:
    """A name that changes when this project's code or the environment does: another server is started then."""
    code = Path(__file__).resolve().parents[1]
    newest = max(path.stat().st_mtime_ns for path in (*code.rglob("*.py"), Path(sys.prefix)))
    return hashlib.sha256(f"{sys.executable} {code} {newest}".encode()).hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

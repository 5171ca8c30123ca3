"""Warm kernels from code: a fork server of one's own, and kernel managers whose kernels it forks.

    with WarmKernels() as kernels:
        execute(notebook, values, run_directory=folder, manager=kernels.manager)

Where there is no fork that is safe (macOS: its frameworks do not survive one), or the server says that a fork would not be what
a cold kernel is, the kernel starts cold, by the same manager.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from pathlib import Path
from queue import Empty
from typing import Any

from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

from helpers.fleet.forking import ForkedKernel, ask, end_server, start_server

LAUNCHER = ["-m", "ipykernel_launcher"]
BOUND = 60.0  # seconds until a kernel listens
ENDING = 2.0  # seconds that a kernel is given to end by itself before its manager looks after it
CHANNELS = ("shell", "iopub", "stdin", "hb", "control")


class WarmKernels:
    """A fork server that starts with the first kernel and ends with `close`, or with this process.

    `counts` says how many kernels were `warm` and `cold`, `reasons` why some were cold.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self._server: subprocess.Popen | None = None
        self._folder = ""
        self._lock = threading.Lock()

    def __enter__(self) -> WarmKernels:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The process id of the fork server, None where none runs."""
        return self._server.pid if self._server and self._server.poll() is None else None

    def start(self) -> None:
        """Start the server now, so that it imports while its client does something else; where it cannot, kernels are cold."""
        with contextlib.suppress(OSError):
            self._address()

    def manager(self, **options: Any) -> AsyncKernelManager:
        """A manager of one kernel that is forked where it can be; `options` are AsyncKernelManager's."""
        manager = AsyncKernelManager(**options)
        manager.kernel_id = str(uuid.uuid4())
        manager.client_factory = PromptClient
        manager.provisioner = WarmProvisioner(kernel_id=manager.kernel_id, kernel_spec=manager.kernel_spec, parent=manager)
        manager.provisioner.kernels = self
        return manager

    def fork(self, argv: list[str], env: dict[str, str], cwd: str, files: list[int]) -> ForkedKernel | None:
        """A forked kernel, or None where it has to start cold; `counts` and `reasons` are kept."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(self._address())
            made, reason = ask(connection, argv, env, cwd, files)
        except (OSError, ValueError) as error:
            made, reason = None, str(error)
            connection.close()
        with self._lock:
            self.counts["warm" if made else "cold"] += 1
            if reason:
                self.reasons[reason] += 1
        return made

    def _address(self) -> str:
        """The socket of the server, which is started where it does not run. Raises `OSError` where it cannot."""
        if sys.platform != "linux":
            raise OSError("kernels are forked on Linux only")
        with self._lock:
            if self.pid is None:
                self._start()
            return f"{self._folder}/server"

    def _start(self) -> None:
        self._stop()
        place = None if len(tempfile.gettempdir()) < 70 else "/tmp"  # a socket's path has at most 108 bytes
        self._folder = tempfile.mkdtemp(prefix="rb-fork-", dir=place)
        self._server = start_server(f"{self._folder}/server", lifeline=True)

    def close(self) -> None:
        """End the server, and with it every kernel that is left."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            end_server(server)
        for name in ("server", ""):
            with contextlib.suppress(OSError):
                (os.unlink if name else os.rmdir)(os.path.join(self._folder, name))


class WarmProvisioner(LocalProvisioner):
    """jupyter_client's local provisioner, whose process is forked where that can be."""

    kernels: WarmKernels

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Fork the kernel; start it as ever where it cannot be forked."""
        forked = self._fork(cmd, kwargs)
        if forked is None:
            return await super().launch_kernel(cmd, **kwargs)
        self.process, self.pid, self.pgid = forked, forked.pid, None  # without a group, signals go through `process`
        self.cwd = kwargs.get("cwd") or os.getcwd()
        await self._until_bound()
        return self.connection_info

    async def wait(self) -> int | None:
        """Wait for the end without the 100 ms that the base class sleeps between looks."""
        while isinstance(self.process, ForkedKernel) and self.process.poll() is None:
            await asyncio.sleep(0.005)
        return await super().wait()

    async def shutdown_requested(self, restart: bool = False) -> None:
        """Wait a little for a kernel that was asked to end: the manager would look every 100 ms."""
        end = time.monotonic() + ENDING
        while isinstance(self.process, ForkedKernel) and self.process.poll() is None and time.monotonic() < end:
            await asyncio.sleep(0.005)

    def _fork(self, cmd: list[str], kwargs: dict[str, Any]) -> ForkedKernel | None:
        if cmd[1:3] != LAUNCHER and cmd[2:4] != LAUNCHER or any(kwargs.get(name) is not None for name in ("stdin", "stdout", "stderr")):
            return None
        env = kwargs.get("env")
        with open(os.devnull, "rb") as nothing:
            argv = cmd[cmd.index("ipykernel_launcher") + 1 :]
            return self.kernels.fork(argv, dict(os.environ if env is None else env), str(kwargs.get("cwd") or os.getcwd()), [nothing.fileno(), 1, 2])

    async def _until_bound(self) -> None:
        """Wait until the kernel listens: a client that connects to a socket file that is not there tries again 100 ms later."""
        if self.parent is None or self.parent.transport != "ipc":
            return
        files = [Path(f"{self.parent.ip}-{self.connection_info[f'{name}_port']}") for name in CHANNELS]
        end = time.monotonic() + BOUND
        while not all(file.exists() for file in files) and self.process.poll() is None and time.monotonic() < end:
            await asyncio.sleep(0.004)


class PromptClient(AsyncKernelClient):
    """A client that is ready as soon as the kernel is, and not 0.2 s of silence later."""

    async def wait_for_ready(self, timeout: float | None = None) -> None:
        """Wait until the kernel answers and what it publishes arrives here. Raises `RuntimeError` where it does not."""
        end = time.monotonic() + (timeout or 1e9)
        while not await self._echo():
            if not await self.is_alive():
                raise RuntimeError("The kernel died before it was ready.")
            if time.monotonic() > end:
                raise RuntimeError(f"The kernel did not answer in {timeout:.0f} s.")

    async def _echo(self) -> bool:
        """True when a request was answered, and the end of its work published: all that was before it has then been read."""
        asked = self.kernel_info()
        try:
            while True:
                reply = await self.shell_channel.get_msg(timeout=1)
                if reply["parent_header"].get("msg_id") == asked:
                    break
            while True:
                message = await self.iopub_channel.get_msg(timeout=0.2)
                done = message["msg_type"] == "status" and message["content"]["execution_state"] == "idle"
                if done and message["parent_header"].get("msg_id") == asked:
                    self._handle_kernel_info_reply(reply)
                    return True
        except Empty:
            return False

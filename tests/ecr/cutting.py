"""A relay that breaks connections after so many bytes, to stand between a client and a server of a test."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Sequence


class Cutter:
    """Hands bytes on to a port of this machine. `passed` counts what went to the server; `after` are the counts at which a connection breaks."""

    def __init__(self, port: int, after: Sequence[int] = ()) -> None:
        self.passed, self.after, self._to = 0, sorted(after), port
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                for one, other, counted in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._copy, args=(one, other, counted), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                if counted and self._cuts(len(piece)):
                    break
                target.sendall(piece)
        for one in (source, target):
            with contextlib.suppress(OSError):
                # A reset, as of a network that is gone: a mere end would leave the client writing.
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.shutdown(socket.SHUT_RDWR)
                one.close()

    def _cuts(self, size: int) -> bool:
        with self._lock:
            self.passed += size
            if self.after and self.passed >= self.after[0]:
                self.after.pop(0)
                return True
            return False

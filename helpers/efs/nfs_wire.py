"""Just enough ONC RPC and NFSv4.1 to ask a server for a path, from user space and without root.

RFC 5531 (RPC), RFC 4506 (XDR), RFC 8881 (NFSv4.1): a NULL call, EXCHANGE_ID and CREATE_SESSION, then PUTROOTFH, LOOKUP and GETATTR.
"""

from __future__ import annotations

import os
import socket
import struct
import time

PROGRAM, VERSION = 100003, 4
NULL, COMPOUND = 0, 1
AUTH_NONE, AUTH_SYS = 0, 1
GETATTR, GETFH, LOOKUP, PUTFH, PUTROOTFH = 9, 10, 15, 22, 24
EXCHANGE_ID, CREATE_SESSION, DESTROY_SESSION, SEQUENCE, DESTROY_CLIENTID = 42, 43, 44, 53, 57
TYPE, MODE, OWNER = 1, 33, 36  # bits of the attributes that are asked for
TYPES = {1: "file", 2: "directory", 5: "symbolic link"}
STATUS = {
    1: "NFS4ERR_PERM", 2: "NFS4ERR_NOENT", 5: "NFS4ERR_IO", 13: "NFS4ERR_ACCESS", 20: "NFS4ERR_NOTDIR", 22: "NFS4ERR_INVAL",
    63: "NFS4ERR_NAMETOOLONG", 70: "NFS4ERR_STALE", 10008: "NFS4ERR_DELAY", 10016: "NFS4ERR_WRONGSEC", 10021: "NFS4ERR_MINOR_VERS_MISMATCH",
    10029: "NFS4ERR_SYMLINK", 10040: "NFS4ERR_BADNAME", 10044: "NFS4ERR_OP_ILLEGAL",
}  # fmt: skip
DENIED = {1, 13, 10016}
UNAVAILABLE = {1: "this RPC program", 2: "this version", 3: "this procedure"}
LONGEST_RECORD = 1 << 21  # bytes; a longer one is not RPC but some other protocol's text


class NotRpc(Exception):
    """What came back is no RPC reply, or none to this program."""


class NfsError(Exception):
    """An operation of a COMPOUND that failed: its number in the protocol as `status`."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(STATUS.get(status, f"NFS status {status}"))


class Client:
    """One connection to an NFS server (a TCP or TLS socket); every answer must come before `deadline` (time.monotonic seconds)."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline
        self._xid = struct.unpack(">I", os.urandom(4))[0]
        self._client_id, self._session, self._sequence = b"", b"", 0

    def null(self) -> None:
        """Call NFS 4's NULL procedure. Raises NotRpc, or OSError where nothing answers."""
        self._call(NULL, b"", _credentials(AUTH_NONE))

    def open_session(self) -> str:
        """EXCHANGE_ID and CREATE_SESSION; returns the server's own name of itself. Raises NfsError."""
        owner = _opaque(f"aws-runbooks probe {socket.gethostname()} {os.getpid()}".encode() + os.urandom(4))
        answer = self._compound((EXCHANGE_ID, os.urandom(8) + owner + struct.pack(">III", 0, 0, 0)))[0]
        self._client_id = answer.take(8)
        sequence = answer.number()
        answer.take(8)  # flags; how state is protected: not at all, as asked
        answer.take(8)  # the minor id of the server's owner
        name = answer.opaque()
        channel = struct.pack(">7I", 0, 65536, 65536, 4096, 8, 1, 0)
        request = self._client_id + struct.pack(">II", sequence, 0) + channel * 2 + struct.pack(">III", 0x40000000, 1, AUTH_NONE)
        self._session = self._compound((CREATE_SESSION, request))[0].take(16)
        return name.rstrip(b"\0").decode(errors="replace")

    def root(self) -> bytes:
        """The file handle of the server's root."""
        return self._in_session((PUTROOTFH, b""), (GETFH, b""))[1].opaque()

    def lookup(self, directory: bytes, name: str) -> bytes:
        """The file handle of `name` in the directory of that handle. Raises NfsError."""
        return self._in_session((PUTFH, _opaque(directory)), (LOOKUP, _opaque(name.encode())), (GETFH, b""))[2].opaque()

    def attributes(self, handle: bytes) -> str:
        """What a handle is, in words: its type, mode and owner."""
        asked = struct.pack(">III", 2, 1 << TYPE, 1 << MODE - 32 | 1 << OWNER - 32)
        answer = self._in_session((PUTFH, _opaque(handle)), (GETATTR, asked))[1]
        masks = [answer.number() for _ in range(answer.number())] + [0, 0]
        answer.number()  # the length of what follows
        words = []
        if masks[0] >> TYPE & 1:
            kind = answer.number()
            words.append(TYPES.get(kind, f"of type {kind}"))
        if masks[1] >> MODE - 32 & 1:
            words.append(f"mode {answer.number():04o}")
        if masks[1] >> OWNER - 32 & 1:
            words.append(f"owner {answer.opaque().decode(errors='replace')}")
        return ", ".join(words)

    def end_session(self) -> None:
        """Give the session and the client id back, so that the probe leaves no state on the server."""
        self._compound((DESTROY_SESSION, self._session))
        self._compound((DESTROY_CLIENTID, self._client_id))

    def _in_session(self, *operations: tuple[int, bytes]) -> list[_Answer]:
        self._sequence += 1
        sequence = self._session + struct.pack(">IIII", self._sequence, 0, 0, 0)
        return self._compound((SEQUENCE, sequence), *operations)[1:]

    def _compound(self, *operations: tuple[int, bytes]) -> list[_Answer]:
        """The results of the operations of one COMPOUND; each starts after its status."""
        body = _opaque(b"") + struct.pack(">II", 1, len(operations))
        body += b"".join(struct.pack(">I", number) + arguments for number, arguments in operations)
        reply = _Answer(self._call(COMPOUND, body, _credentials(AUTH_SYS)))
        status = reply.number()
        if status:
            raise NfsError(status)
        reply.opaque()  # the tag
        reply.number()  # how many results
        return [_Answer(reply.result(number)) for number, _ in operations]

    def _call(self, procedure: int, arguments: bytes, credentials: bytes) -> bytes:
        self._xid = (self._xid + 1) & 0xFFFFFFFF
        message = struct.pack(">6I", self._xid, 0, 2, PROGRAM, VERSION, procedure) + credentials + _credentials(AUTH_NONE) + arguments
        self._wait_at_most()
        self._connection.sendall(struct.pack(">I", 0x80000000 | len(message)) + message)
        reply = _Answer(self._record())
        try:
            return self._accepted(reply)
        except struct.error as error:
            raise NotRpc("the answer ends too soon for an RPC reply") from error

    def _accepted(self, reply: _Answer) -> bytes:
        if reply.number() != self._xid or reply.number() != 1:
            raise NotRpc("the answer is no reply to the RPC call")
        if reply.number() != 0:
            raise NotRpc("the RPC call was rejected: its version or credentials")
        reply.number()
        reply.opaque()  # the verifier
        status = reply.number()
        if status:
            raise NotRpc(f"the server does not have {UNAVAILABLE.get(status, 'an answer to this call')} (NFS is program {PROGRAM}, version {VERSION})")
        return reply.rest()

    def _record(self) -> bytes:
        """One record: fragments, of which the last is marked in its length."""
        record, last = b"", False
        while not last:
            header = self._read(4)
            length = struct.unpack(">I", header)[0]
            last, length = bool(length >> 31), length & 0x7FFFFFFF
            if length + len(record) > LONGEST_RECORD:
                raise NotRpc(f"the answer begins with {header!r}, which is no RPC reply")
            record += self._read(length)
        return record

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            self._wait_at_most()
            part = self._connection.recv(size - len(data))
            if not part:
                raise NotRpc("the server closed the connection instead of answering")
            data += part
        return data

    def _wait_at_most(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no answer in time")
        self._connection.settimeout(left)


class _Answer:
    """XDR data, read from the front."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> bytes:
        if self._at + size > len(self._data):
            raise struct.error("short")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self) -> int:
        return struct.unpack(">I", self.take(4))[0]

    def opaque(self) -> bytes:
        size = self.number()
        return self.take(size + -size % 4)[:size]

    def rest(self) -> bytes:
        return self._data[self._at :]

    def result(self, operation: int) -> bytes:
        """The bytes of one operation's result, which ends where the next begins."""
        if self.number() != operation:
            raise NotRpc("the server answers another operation than was asked")
        status = self.number()
        if status:
            raise NfsError(status)
        if operation in (PUTFH, PUTROOTFH, LOOKUP, DESTROY_SESSION, DESTROY_CLIENTID):
            return b""
        if operation == SEQUENCE:
            return self.take(36)
        if operation == GETFH:
            size = struct.unpack(">I", self._data[self._at : self._at + 4])[0]
            return self.take(4 + size + -size % 4)
        return self.take(len(self._data) - self._at)  # the others stand last


def _opaque(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data + b"\0" * (-len(data) % 4)


def _credentials(flavor: int) -> bytes:
    """AUTH_NONE, or AUTH_SYS as this process's user on this host."""
    if flavor == AUTH_NONE:
        return struct.pack(">II", AUTH_NONE, 0)
    body = struct.pack(">I", 0) + _opaque(socket.gethostname().encode()[:255]) + struct.pack(">III", os.getuid(), os.getgid(), 0)
    return struct.pack(">I", AUTH_SYS) + _opaque(body)

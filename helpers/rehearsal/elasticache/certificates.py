"""Make the certificates of encryption in transit: an authority of the cloud's own, and one leaf an address."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path

# Imported from within the cloud only, which is what the rehearsal extra is installed for.
import trustme

AUTHORITY = "The local cloud of aws-runbooks"


class Certificates:
    """One certificate authority; its key never leaves the memory of this process."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._authority = trustme.CA(organization_name=AUTHORITY)
        self._lock = threading.Lock()
        self._files: dict[str, tuple[Path, Path]] = {}

    def of(self, host: str) -> tuple[Path, Path]:
        """Return the files of a certificate for one address of the loopback, and of its key.

        The address is the only name in it (an IP SAN), so that a client which checks host names
        refuses any other, "localhost" included. Both files are readable by their owner only.
        """
        with self._lock:
            if host not in self._files:
                self._files[host] = self._issue(host)
            return self._files[host]

    def write_bundle(self, path: Path) -> None:
        """Write what a client trusts: this authority, and the ones it trusts otherwise."""
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(self._authority.cert_pem.bytes() + b"\n" + _usual())
        partial.replace(path)

    def _issue(self, host: str) -> tuple[Path, Path]:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        leaf = self._authority.issue_cert(host, organization_name=AUTHORITY)
        certificate, key = self._directory / f"{host}.pem", self._directory / f"{host}.key"
        certificate.write_bytes(b"".join(part.bytes() for part in leaf.cert_chain_pems))
        key.touch(mode=0o600)
        key.write_bytes(leaf.private_key_pem.bytes())
        return certificate, key


def _usual() -> bytes:
    """Return the certificates that Python trusts on this machine: the system's, or certifi's where it has none."""
    file = ssl.get_default_verify_paths().cafile
    if file is None:
        import certifi

        file = certifi.where()
    return Path(file).read_bytes()

"""A few published vulnerabilities of packages that images often have, and which versions of Debian's packages have them.

Source: https://security-tracker.debian.org/tracker/ (Debian 11 and 12), and the advisories of Redis and Valkey.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

TRACKER = "https://security-tracker.debian.org/tracker/"


@dataclass(frozen=True)
class Vulnerability:
    """A vulnerability of a package before a version, of every version where `fixed` is empty."""

    package: str
    fixed: str
    name: str
    severity: str
    score: float
    description: str

    def of(self, package: str, version: str) -> bool:
        """Return whether this version of a package has it."""
        return package == self.package and (not self.fixed or before(version, self.fixed))


KNOWN = (
    Vulnerability("libc6", "2.36-9+deb12u3", "CVE-2023-4911", "HIGH", 7.8, "ld.so overflows a buffer on a long GLIBC_TUNABLES and gives a local user root"),
    Vulnerability("libc6", "2.36-9+deb12u6", "CVE-2024-2961", "HIGH", 8.8, "iconv writes past its buffer for ISO-2022-CN-EXT"),
    Vulnerability("libc6", "2.36-9+deb12u10", "CVE-2025-0395", "MEDIUM", 5.5, "assert allocates too little for its message"),
    Vulnerability("libc6", "2.36-9+deb12u11", "CVE-2025-4802", "HIGH", 7.8, "a static setuid program that calls dlopen searches LD_LIBRARY_PATH"),
    Vulnerability("libc6", "", "CVE-2019-1010022", "INFORMATIONAL", 0.0, "the stack guard can be passed by a large overflow; no security matter, says upstream"),
    Vulnerability("libssl1.1", "1.1.1n-0+deb11u1", "CVE-2022-0778", "HIGH", 7.5, "a certificate with a wrong curve makes BN_mod_sqrt loop for ever"),
    Vulnerability("libssl1.1", "1.1.1n-0+deb11u4", "CVE-2023-0286", "HIGH", 7.4, "an X.400 address of a certificate is read as another type"),
    Vulnerability("libssl3", "3.0.9-1", "CVE-2023-0286", "HIGH", 7.4, "an X.400 address of a certificate is read as another type"),
    Vulnerability("libssl3", "3.0.15-1~deb12u1", "CVE-2024-6119", "HIGH", 7.5, "a name check of a certificate may read an invalid address"),
    Vulnerability("zlib1g", "1:1.2.11.dfsg-2+deb11u2", "CVE-2022-37434", "CRITICAL", 9.8, "inflate overflows its buffer on a large extra field"),
    Vulnerability("zlib1g", "", "CVE-2023-45853", "CRITICAL", 9.8, "MiniZip overflows on a long file name; Debian does not build it into this package"),
    Vulnerability("redis-server", "5:6.2.18-1", "CVE-2025-21605", "HIGH", 7.5, "an unauthenticated client can make output buffers grow without limit"),
    Vulnerability("redis-server", "5:6.2.20-1", "CVE-2025-49844", "CRITICAL", 9.9, "a Lua script can use memory after it was freed and run code"),
    Vulnerability("valkey-server", "8.1.1", "CVE-2025-21605", "HIGH", 7.5, "an unauthenticated client can make output buffers grow without limit"),
    Vulnerability("valkey-server", "8.1.4", "CVE-2025-49844", "CRITICAL", 9.9, "a Lua script can use memory after it was freed and run code"),
)  # fmt: skip


def of(package: str, version: str) -> list[Vulnerability]:
    """Return what is known of a version of a package."""
    return [one for one in KNOWN if one.of(package, version)]


def before(version: str, other: str) -> bool:
    """Return whether a version of Debian comes before another.

    Source: https://www.debian.org/doc/debian-policy/ch-controlfields.html#version
    """
    return _key(version) < _key(other)


def _key(version: str) -> tuple[int, list[tuple[list[int], int]], list[tuple[list[int], int]]]:
    epoch, colon, rest = version.partition(":")
    upstream, _, revision = (rest if colon else version).rpartition("-")
    if not upstream:
        upstream, revision = revision, "0"
    return int(epoch) if colon else 0, _parts(upstream), _parts(revision)


def _parts(text: str) -> list[tuple[list[int], int]]:
    """Return a version in turns of letters and a number; ~ sorts before the end, which sorts before letters, which sort before signs."""
    found = re.findall(r"(\D*)(\d*)", text)
    return [([*map(_order, letters), 0], int(digits or 0)) for letters, digits in found]


def _order(letter: str) -> int:
    return -1 if letter == "~" else ord(letter) if letter.isalpha() else ord(letter) + 256

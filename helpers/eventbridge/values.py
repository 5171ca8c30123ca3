"""Numbers and addresses in the form in which AWS's engine compares them.

Source: https://github.com/aws/event-ruler (2.0.1), its ComparableNumber and CIDR.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from decimal import Decimal

_IPV4 = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+")
_IPV6 = re.compile(r"[0-9a-fA-F:]*:[0-9a-fA-F:]*")
_MASK = re.compile(r"[+-]?\d+")
_POWER = re.compile(r"-?[0-9]+(?:\.([0-9]+))?[eE]([+-]?[0-9]+)")


def number(literal: str) -> float | None:
    """The number of a JSON literal, or None where a double does not hold exactly that number (a long id, `1e400`)."""
    if exceeds(literal):
        return None
    value = float(literal) + 0.0  # no negative zero
    if value in (float("inf"), float("-inf")):
        return None
    if value == 0:
        return value if not re.search("[1-9]", re.split("[eE]", literal)[0]) else None
    return value if Decimal(_written(value)) == Decimal(literal) else None


def exceeds(literal: str) -> bool:
    """True of a number whose power of ten is beyond 32 bits, which the engine's parser refuses, a zero as well."""
    found = _POWER.fullmatch(literal)
    return found is not None and not -(2**31) < int(found[2]) - len(found[1] or "") < 2**31


def _written(value: float) -> str:
    """A double as Java writes it: two digits at least, which differs from one digit for the very smallest numbers."""
    short = repr(value)
    if abs(value) < 1e-320:
        two = f"{value:.1e}"
        return two if float(two) == value else short
    return short


def comparable(value: float) -> bytes:
    """A number as the engine's bytes: up to ten groups of seven bits, in the order of the numbers, without trailing zeros."""
    bits = struct.unpack(">Q", struct.pack(">d", value))[0]
    bits ^= 0xFFFFFFFFFFFFFFFF if bits >> 63 else 1 << 63
    groups = bytes(bits >> shift & 0x7F for shift in range(63, -1, -7))
    return groups.rstrip(b"\0")


@dataclass(frozen=True)
class AddressRange:
    """Addresses as hexadecimal digits (8 or 32, upper case), and whether the ends belong to the range."""

    bottom: str
    top: str
    open_bottom: bool = False
    open_top: bool = False

    def holds(self, digits: str) -> bool:
        """True where the digits are in the range, or where their beginning decides that they must be.

        The engine stops reading as soon as it is sure; so a longer text may be in a range of shorter addresses.
        """
        on_bottom = on_top = True
        last = len(self.bottom) - 1
        for at, digit in enumerate(digits[: last + 1]):
            if digit not in "0123456789ABCDEF":
                return False
            low, high = self.bottom[at] if on_bottom else "", self.top[at] if on_top else "G"
            if low < digit < high:
                return True
            on_bottom, on_top = on_bottom and digit == low, on_top and digit == high
            if not (on_bottom or on_top):
                return False
            if at == last:
                return not (on_bottom and self.open_bottom) and not (on_top and self.open_top)
        return False


def digits(address: str) -> str | None:
    """The hexadecimal digits of an IPv4 or IPv6 address, or None where the text is none."""
    if _IPV4.fullmatch(address):
        octets = [int(one) for one in address.split(".")] if len(address) <= 15 else [256]
        return "".join(f"{one:02X}" for one in octets) if max(octets) < 256 else None
    return _ipv6(address) if is_address_like(address) else None


def is_address_like(text: str) -> bool:
    """True where the engine tries to read a text as an address: digits with three dots, or hexadecimal digits with a colon."""
    return bool(_IPV4.fullmatch(text) or _IPV6.fullmatch(text))


def _ipv6(address: str) -> str | None:
    head, gap, tail = address.partition("::")
    if "::" in tail or (tail.startswith(":") and gap):
        return None
    groups = [head.split(":") if head else [], tail.split(":") if tail else []]
    if any(not group or int(group, 16) > 0xFFFF for side in groups for group in side):
        return None
    written = sum(map(len, groups))
    if written > 7 if gap else written != 8:
        return None
    filled = [*groups[0], *["0"] * (8 - written), *groups[1]]
    text = "".join(f"{int(group, 16):04X}" for group in filled)
    return text[24:] if text.startswith("0" * 20 + "FFFF") else text  # an IPv4 address in IPv6 form is an IPv4 address


def address(text: str) -> AddressRange | None:
    """The range that holds one address and nothing else, or None where the text is no address."""
    found = digits(text)
    if found is None:
        return None
    last = found[-1]
    if last == "F":
        return AddressRange(found[:-1] + "E", found, open_bottom=True)
    return AddressRange(found, found[:-1] + f"{int(last, 16) + 1:X}", open_top=True)


def cidr(text: str) -> AddressRange:
    """The addresses of a CIDR block. Raises `ValueError` with AWS's text."""
    parts = text.split("/")
    while parts and not parts[-1]:  # as Java splits
        parts.pop()
    if len(parts) != 2:
        raise ValueError("Malformed CIDR, one '/' required")
    if not _MASK.fullmatch(parts[1]) or not -(2**31) <= int(parts[1]) < 2**31:
        raise ValueError("Malformed CIDR, mask bits must be an integer")
    bits = int(parts[1])
    if bits < 0:
        raise ValueError("Malformed CIDR, mask bits must not be negative")
    bottom = digits(parts[0])
    if bottom is None:
        raise ValueError(f"{'Invalid' if is_address_like(parts[0]) else 'Nonstandard'} IP address: {parts[0]}")
    size = len(bottom) * 4
    if bits >= size:
        raise ValueError(f"IPv{4 if size == 32 else 6} mask bits must be < {size}")
    rest = (1 << (size - bits)) - 1
    return AddressRange(f"{int(bottom, 16) & ~rest:0{len(bottom)}X}", f"{int(bottom, 16) | rest:0{len(bottom)}X}")

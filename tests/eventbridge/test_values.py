"""Numbers and addresses as the engine compares them."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.eventbridge import values

finite = st.floats(allow_nan=False, allow_infinity=False)


@given(finite, finite)
def test_the_bytes_of_numbers_sort_as_the_numbers(one: float, other: float) -> None:
    assert (values.comparable(one + 0.0) < values.comparable(other + 0.0)) == (one < other)


@pytest.mark.parametrize(
    ("literal", "number"),
    [
        ("300", 300.0),
        ("3.0e2", 300.0),
        ("-0.0", 0.0),
        ("0.1", 0.1),
        ("9007199254740993", None),
        ("1e400", None),
        ("1E-325", None),
        ("5e-324", None),
        ("4.9e-324", 5e-324),
        ("0e2147483647", 0.0),
        ("0e2147483648", None),
        ("0.0e-2147483647", None),
        ("1e99999999999", None),
    ],
)
def test_a_literal_is_a_number_where_a_double_holds_exactly_that(literal: str, number: float | None) -> None:
    assert values.number(literal) == number


@given(st.ip_addresses())
def test_an_address_has_its_digits_in_whatever_spelling(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    wanted = address.packed.hex().upper()
    mapped = isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped
    wanted = mapped.packed.hex().upper() if mapped else wanted
    spellings = [address.exploded, address.compressed] if not mapped else [address.exploded]
    assert {values.digits(one) for one in spellings} == {wanted}


@given(st.ip_addresses(v=4), st.integers(0, 31), st.ip_addresses(v=4))
def test_a_cidr_holds_the_addresses_of_its_block(
    base: ipaddress.IPv4Address, bits: int, other: ipaddress.IPv4Address
) -> None:
    block = ipaddress.ip_network(f"{base}/{bits}", strict=False)
    for address in (base, other, block[0], block[-1]):
        assert values.cidr(f"{base}/{bits}").holds(values.digits(str(address))) == (address in block)


@given(st.ip_addresses(v=4), st.ip_addresses(v=4))
def test_an_address_holds_itself_and_no_other(one: ipaddress.IPv4Address, other: ipaddress.IPv4Address) -> None:
    assert values.address(str(one)).holds(values.digits(str(one)))
    assert values.address(str(one)).holds(values.digits(str(other))) == (one == other)


def test_a_range_is_decided_by_the_first_digits_that_suffice() -> None:
    assert values.cidr("18.0.0.0/8").holds("125") and not values.cidr("18.0.0.0/8").holds("120")


@pytest.mark.parametrize("text", ["256.1.1.1", "1.2.3", "a:b", ":", "1:2:3:4:5:6:7:8:9", "::1::", "12345::", "x"])
def test_what_only_looks_like_an_address_is_none(text: str) -> None:
    assert values.digits(text) is None and values.address(text) is None

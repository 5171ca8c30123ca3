"""Whether every account of a fleet can be entered, asked before the first run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from helpers.aws import connect
from helpers.aws.errors import RunbookError
from helpers.fleet.file import Fault
from helpers.fleet.targets import Target

AT_ONCE = 16


def unreachable(targets: Iterable[Target], enter: Callable[..., Any] = connect) -> list[Fault]:
    """A fault for each target whose profile, role, region or account cannot be entered; each is asked once."""
    places = {tuple(sorted(target.place.items())): target for target in targets}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        told = dict(zip(places, pool.map(lambda place: _entered(dict(place), enter), places), strict=True))
    return [Fault(target.line, told[key]) for target in targets if told[key := tuple(sorted(target.place.items()))]]


def _entered(place: dict[str, str], enter: Callable[..., Any]) -> str:
    """Why it cannot be entered; empty where it can."""
    try:
        enter(**place)
    except RunbookError as error:
        return str(error)
    return ""

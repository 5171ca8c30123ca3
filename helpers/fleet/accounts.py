"""Whether every account of a fleet can be entered, asked before the first run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from helpers.aws import connect
from helpers.aws.errors import RunbookError
from helpers.fleet.file import Fault
from helpers.fleet.targets import Target

AT_ONCE = 16


def unreachable(targets: Iterable[Target], enter: Callable[..., Any] = connect) -> list[Fault]:
    """A fault for each target whose profile, role, region or account cannot be entered; each is asked once."""
    targets = list(targets)
    told = _entered(places(targets), enter)
    return [Fault(target.line, str(found)) for target in targets if isinstance(found := told[label(target.place)], RunbookError)]


def places(targets: Iterable[Target]) -> list[dict[str, str]]:
    """The arguments of `helpers.aws.connect` that the targets' runs will use, each once."""
    return list({label(target.place): target.place for target in targets}.values())


def label(place: Mapping[str, str]) -> str:
    """A place in words."""
    return ", ".join(f"{name} {value}" for name, value in sorted(place.items())) or "the default credentials"


def identities(places: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Which account and region each place is for this process, or why it cannot be entered; by label."""
    told = _entered(places, connect)
    return {name: str(found) if isinstance(found, RunbookError) else f"{found.account} in {found.region}" for name, found in told.items()}


def _entered(places: Sequence[Mapping[str, str]], enter: Callable[..., Any]) -> dict[str, Any]:
    """What each place is, or the error that it cannot be entered with, by label."""

    def one(place: Mapping[str, str]) -> Any:
        try:
            return enter(**place)
        except RunbookError as error:
            return error

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(map(label, places), pool.map(one, places), strict=True))

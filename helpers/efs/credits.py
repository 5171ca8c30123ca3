"""The burst credits of an EFS file system: its rates by size, what is metered, and the balance step by step.

The rules are those of https://docs.aws.amazon.com/efs/latest/ug/performance.html#bursting. Sizes and balances are bytes,
rates bytes a second; only `ValueInStandard` of a file system's size counts.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from helpers.aws.errors import RunbookError

try:  # about three times as fast as NumPy alone, and as right
    import numba
except ImportError:
    numba = None

KEEP = os.access(Path(__file__).parent, os.W_OK)  # compiled code, where there is a place for it

MIB, GIB, TIB = 2**20, 2**30, 2**40

BASELINE_PER_BYTE = 50 * 1024 / GIB  # bytes/s: 50 KiB/s a GiB
FLOOR = 1 * MIB  # bytes/s that every file system may do without credits
BURST = 100 * MIB  # bytes/s with credits, up to 1 TiB and for each TiB
INITIAL_CREDIT = 2.1 * TIB  # bytes of a new file system
READ_SHARE = 3  # reads are metered at a third

Floats = NDArray[np.float64]


class BurstRates(NamedTuple):
    """Rates in bytes/s and the largest balance in bytes, each in the shape of the size that was asked for."""

    baseline: Any
    permitted_without_credit: Any
    permitted_with_credit: Any
    max_credit: Any


def burst_rates(standard_bytes: ArrayLike) -> BurstRates:
    """What a bursting file system with `standard_bytes` in the Standard class earns and may do.

    `baseline` is what it earns, 50 KiB/s a GiB; it may always do 1 MiB/s. With credits it may do 100 MiB/s, above
    1 TiB 100 MiB/s a TiB. The balance ends at 2.1 TiB, above 1 TiB at 2.1 TiB a TiB. Raises `RunbookError` for a size
    that is negative or unknown.
    """
    size = np.asarray(standard_bytes, dtype=np.float64)
    if not (size >= 0).all():
        raise RunbookError("A size is negative or missing.", "Give the bytes in the Standard class, 0 for an empty file system.")
    baseline = size * BASELINE_PER_BYTE
    tebibytes = np.maximum(1.0, size / TIB)
    # [()] makes numbers of arrays without dimensions.
    return BurstRates(baseline[()], np.maximum(baseline, FLOOR)[()], (BURST * tebibytes)[()], (INITIAL_CREDIT * tebibytes)[()])


def metered_bytes(read: ArrayLike, write: ArrayLike, metadata: ArrayLike = 0) -> Any:
    """What counts against the credits: a third of what is read, all that is written, and metadata (bytes or bytes/s)."""
    return (np.asarray(read, dtype=np.float64) / READ_SHARE + np.asarray(write) + np.asarray(metadata))[()]


def seconds_to_zero(standard_bytes: ArrayLike, credit: ArrayLike, metered_rate: ArrayLike) -> Any:
    """Seconds until `credit` bytes are used up at `metered_rate` bytes/s; inf where the rate is not above the baseline.

    Each is a number or an array, and the result is of their common shape; NaN where a rate or a balance is missing.
    """
    excess = np.asarray(metered_rate, dtype=np.float64) - burst_rates(standard_bytes).baseline
    credit, excess = np.broadcast_arrays(np.asarray(credit, dtype=np.float64), excess)
    never = np.where(np.isnan(credit) | np.isnan(excess), np.nan, np.inf)
    return np.divide(credit, excess, out=never, where=excess > 0)[()]


def simulate_credits(
    metered: ArrayLike,
    standard_bytes: ArrayLike,
    step_seconds: float,
    initial_credit: ArrayLike | None = None,
    *,
    out: Floats | None = None,
) -> Floats:
    """The balance in bytes after each step, in the shape of `metered`.

    A step adds the baseline, takes what was metered, and keeps the balance between 0 and the largest balance that the
    size allows: `c = min(max(c + baseline x step_seconds - metered, 0), max_credit)`.

    `metered` is bytes a step, time on axis 0, (steps,) or (steps, file systems), float32 or float64. `standard_bytes`
    is a number, one a step (steps,), or one a step and file system; (1, file systems) is a size that does not change.
    `initial_credit` is a number or one a file system, by default the 2.1 TiB of a new one. The state is float64
    whatever comes in: with float32 the order of additions alone moves a month's result by gigabytes. `out` takes the
    result where given. Raises `RunbookError` where shapes do not fit or a value is missing.
    """
    used = np.asarray(metered)
    if used.dtype not in (np.float32, np.float64):
        used = used.astype(np.float64)
    if used.ndim not in (1, 2):
        raise RunbookError(f"`metered` has {used.ndim} dimensions.", "Give (steps,) or (steps, file systems).")
    if not step_seconds > 0:
        raise RunbookError(f"A step of {step_seconds} seconds is none.", "Give the period of the metric, as 60 or 3600.")
    steps, systems = used.shape[0], used.shape[1] if used.ndim == 2 else 1
    balances = np.empty(used.shape) if out is None else out
    if balances.shape != used.shape or balances.dtype != np.float64:
        raise RunbookError("`out` is not float64 in the shape of `metered`.", f"Give an array of shape {used.shape}.")
    gain, cap = _limits(standard_bytes, step_seconds, steps, systems)
    credit = np.full(systems, INITIAL_CREDIT) if initial_credit is None else _each(initial_credit, systems)
    flat, into = used.reshape(steps, systems), balances.reshape(steps, systems)
    _run(flat, gain, cap, credit, into)
    if steps and np.isnan(into[-1]).any():  # a missing value stays missing to the end
        raise RunbookError("`metered` has missing values.", "Where CloudWatch has no datapoint of a metered file system, give 0.")
    return balances


def _each(values: ArrayLike, systems: int) -> Floats:
    given = np.asarray(values, dtype=np.float64)
    if given.shape not in ((), (1,), (systems,)):
        raise RunbookError(f"`initial_credit` has shape {given.shape} for {systems} file systems.", "Give a number or one a file system.")
    if not (given >= 0).all():
        raise RunbookError("An initial balance is negative or missing.", "An elastic file system has no balance: leave it out.")
    return np.broadcast_to(given, (systems,)).copy()


def _limits(standard_bytes: ArrayLike, step_seconds: float, steps: int, systems: int) -> tuple[Floats, Floats]:
    """Credits earned a step and the largest balance, each (1 or steps, 1 or systems)."""
    size = np.asarray(standard_bytes, dtype=np.float64)
    if size.ndim < 2:
        size = size.reshape(-1, 1)
    if size.ndim != 2 or size.shape[0] not in (1, steps) or size.shape[1] not in (1, systems):
        raise RunbookError(
            f"Sizes of shape {np.shape(standard_bytes)} do not fit {steps} steps of {systems} file systems.",
            "Give a number, one a step, or one a step and file system; (1, file systems) where sizes do not change.",
        )
    rates = burst_rates(size)
    return rates.baseline * step_seconds, rates.max_credit


def _run(used: NDArray[Any], gain: Floats, cap: Floats, credit: Floats, into: Floats) -> None:
    if numba is None:
        _steps_numpy(used, gain, cap, credit, into)
    elif used.shape[1] == 1:
        _steps_of_one(used, gain, cap, credit[0], into)
    else:
        _steps_numba(used, gain, cap, credit, into)


def _steps_numpy(used: NDArray[Any], gain: Floats, cap: Floats, credit: Floats, into: Floats) -> None:
    """The recurrence, a step at a time over all file systems."""
    gain, cap = (np.broadcast_to(each, (len(used), each.shape[1])) for each in (gain, cap))
    for row, taken, earned, most in zip(into, used, gain, cap, strict=True):
        np.subtract(earned, taken, out=row)
        np.add(row, credit, out=row)
        np.maximum(row, 0.0, out=row)
        np.minimum(row, most, out=row)
        credit = row


if numba is not None:

    @numba.njit(cache=KEEP, error_model="numpy")
    def _steps_numba(used, gain, cap, credit, into):  # type: ignore[no-untyped-def]
        """The same, in one pass over memory; a comparison with a missing value is false, so that it stays missing."""
        steps, systems = used.shape
        for step in range(steps):
            at = step if gain.shape[0] > 1 else 0
            if gain.shape[1] == 1:
                earned, most = gain[at, 0], cap[at, 0]
                for system in range(systems):
                    left = credit[system] + (earned - used[step, system])
                    left = 0.0 if left < 0.0 else left
                    left = most if left > most else left
                    credit[system] = left
                    into[step, system] = left
            else:
                for system in range(systems):
                    left = credit[system] + (gain[at, system] - used[step, system])
                    left = 0.0 if left < 0.0 else left
                    left = cap[at, system] if left > cap[at, system] else left
                    credit[system] = left
                    into[step, system] = left

    @numba.njit(cache=KEEP, error_model="numpy")
    def _steps_of_one(used, gain, cap, credit, into):  # type: ignore[no-untyped-def]
        """The same for one file system: nothing to do side by side, so that branches which seldom change are faster."""
        for step in range(used.shape[0]):
            at = step if gain.shape[0] > 1 else 0
            credit += gain[at, 0] - used[step, 0]
            if credit < 0.0:
                credit = 0.0
            elif credit > cap[at, 0]:
                credit = cap[at, 0]
            into[step, 0] = credit

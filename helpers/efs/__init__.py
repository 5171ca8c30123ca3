"""EFS: burst credits and their forecast, throughput modes and prices, who may do what, and mounts that explain themselves.

A name is imported when it is first used: a look at a mount whose tunnel is dead does not wait for pandas and numba.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from helpers.efs.credits import BurstRates, burst_rates, metered_bytes, seconds_to_zero, simulate_credits
    from helpers.efs.diagnose import Diagnosis, diagnose_mount
    from helpers.efs.forecast import Forecast, forecast
    from helpers.efs.modes import can_switch
    from helpers.efs.mount import Target, mount, unmount
    from helpers.efs.mounts import status
    from helpers.efs.policy import Access, access
    from helpers.efs.probe import Probe, probe
    from helpers.efs.recommend import Recommendation, Usage, recommend, tiered

_FROM = {
    "credits": ("BurstRates", "burst_rates", "metered_bytes", "seconds_to_zero", "simulate_credits"),
    "diagnose": ("Diagnosis", "diagnose_mount"),
    "forecast": ("Forecast", "forecast"),
    "modes": ("can_switch",),
    "mount": ("Target", "mount", "unmount"),
    "mounts": ("status",),
    "policy": ("Access", "access"),
    "probe": ("Probe", "probe"),
    "recommend": ("Recommendation", "Usage", "recommend", "tiered"),
}
_MODULE_OF = {name: module for module, names in _FROM.items() for name in names}
__all__ = list(_MODULE_OF)


class _Package(ModuleType):
    """The package, whose `mount`, `probe`, `forecast` and `recommend` are functions, though modules have these names too."""

    def __getattr__(self, name: str) -> Any:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{self.__name__}.{_MODULE_OF[name]}"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _MODULE_OF and isinstance(value, ModuleType)):  # as an import does, after the module is loaded
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package

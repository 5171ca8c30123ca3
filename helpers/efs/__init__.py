"""EFS: burst credits and their forecast, throughput modes and prices, who may do what, and mounts that explain themselves."""

from helpers.efs.credits import BurstRates, burst_rates, metered_bytes, seconds_to_zero, simulate_credits
from helpers.efs.diagnose import Diagnosis, diagnose_mount
from helpers.efs.forecast import Forecast, forecast
from helpers.efs.modes import can_switch
from helpers.efs.mount import Target, mount, unmount
from helpers.efs.mounts import status
from helpers.efs.policy import Access, access
from helpers.efs.probe import Probe, probe
from helpers.efs.recommend import Recommendation, Usage, recommend, tiered

__all__ = [
    "Access",
    "BurstRates",
    "Diagnosis",
    "Forecast",
    "Probe",
    "Recommendation",
    "Target",
    "Usage",
    "access",
    "burst_rates",
    "can_switch",
    "diagnose_mount",
    "forecast",
    "metered_bytes",
    "mount",
    "probe",
    "recommend",
    "seconds_to_zero",
    "simulate_credits",
    "status",
    "tiered",
    "unmount",
]

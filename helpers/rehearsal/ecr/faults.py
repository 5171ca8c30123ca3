"""What a rehearsal orders to go wrong in ECR."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from helpers.rehearsal.cloud import ACCOUNT, REGION
from helpers.rehearsal.ecr.refusals import Refused

PRINCIPAL = f"arn:aws:iam::{ACCOUNT}:user/rehearsal"
NEED_A_KEY = ("CreateRepository", "InitiateLayerUpload", "UploadLayerPart", "CompleteLayerUpload", "PutImage", "BatchGetImage", "GetDownloadUrlForLayer")
ORDERS = ("cut", "deny", "kms_error", "throttle", "vanish")


class Faults:
    """What is ordered and has not happened yet.

    cut: {"after_bytes": int, "times": int}, the connection of a layer breaks when that many of its bytes have come;
    deny: actions ("ecr:PutImage") that nobody may do; kms_error: names of repositories whose key cannot be used;
    throttle: how many of the next requests are too many; vanish: {"repository": str, "after_bytes": int}, it is
    deleted when so many bytes of layers have come into it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ordered: dict[str, Any] = {}

    @property
    def ordered(self) -> dict[str, Any]:
        """Return what is still to come."""
        with self._lock:
            return dict(self._ordered)

    def order(self, orders: Mapping[str, Any]) -> None:
        """Order faults, or take an order back with an empty value. Raises ValueError for one that is not known."""
        if unknown := set(orders) - set(ORDERS):
            raise ValueError(f"There is no fault {min(unknown)!r}; there is {', '.join(ORDERS)}.")
        with self._lock:
            for name, value in orders.items():
                self._ordered.pop(name, None)
                if value:
                    self._ordered[name] = value

    def meet(self, action: str, repository: str) -> None:
        """Raise `Refused` where an action ("PutImage") on a repository is to go wrong; "" for an action on the registry."""
        with self._lock:
            if self._ordered.get("throttle"):
                self._ordered["throttle"] -= 1
                if not self._ordered["throttle"]:
                    del self._ordered["throttle"]
                raise Refused("ThrottlingException", "Rate exceeded")
            denied = f"ecr:{action}" in self._ordered.get("deny", ())
            locked = action in NEED_A_KEY and repository in self._ordered.get("kms_error", ())
        if denied:
            raise denial(action, repository)
        if locked:
            told = "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access."
            raise Refused("KmsException", told, kmsError="AccessDeniedException")

    def cuts(self, before: int, now: int) -> bool:
        """Return whether a connection breaks that has brought a layer's bytes from `before` to `now`; that is then done once."""
        if not self._ordered:
            return False
        with self._lock:
            cut = self._ordered.get("cut")
            if not cut or not before <= cut["after_bytes"] < now:
                return False
            self._ordered["cut"] = {**cut, "times": cut["times"] - 1}
            if cut["times"] <= 1:
                del self._ordered["cut"]
            return True

    def vanishes(self, repository: str, size: int) -> bool:
        """Return whether a repository is to be deleted now that so many more bytes have come into it."""
        if not self._ordered:
            return False
        with self._lock:
            vanish = self._ordered.get("vanish")
            if not vanish or vanish["repository"] != repository:
                return False
            left = vanish["after_bytes"] - size
            self._ordered["vanish"] = {**vanish, "after_bytes": left}
            if left <= 0:
                del self._ordered["vanish"]
            return left <= 0


def denial(action: str, repository: str) -> Refused:
    """Return IAM's refusal of an action."""
    resource = f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{repository}" if repository else "*"
    told = f"User: {PRINCIPAL} is not authorized to perform: ecr:{action} on resource: {resource}"
    return Refused("AccessDeniedException", f"{told} because no identity-based policy allows the ecr:{action} action")

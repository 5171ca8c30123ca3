"""A repository's settings: what they are, what they should be, a verdict on each difference, and what brings them there.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-create.html
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helpers.aws import Aws, Check, RunbookError
from helpers.aws.errors import error_code
from helpers.ecr.login import PRIVATE, PUBLIC, PUBLIC_REGION
from helpers.ecr.tables import table

if TYPE_CHECKING:
    import pandas as pd

AS_IS = "as_is"
IMMUTABLE, MUTABLE = "immutable", "mutable"
BASIC, ENHANCED, OFF = "basic", "enhanced", "off"
MOST_EXCLUSIONS = 5  # https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-tag-mutability.html
ON_PUSH = {"SCAN_ON_PUSH", "CONTINUOUS_SCAN"}
CREATE, CREATE_PUBLIC, TAGS, SCAN, REGISTRY = "CreateRepository", "CreateRepository (public)", "PutImageTagMutability", "PutImageScanningConfiguration", "PutRegistryScanningConfiguration"
SAME, CHANGED, NEVER, LEFT = "as wanted", "will be changed", "can never change", "left as it is"


@dataclass(frozen=True)
class Settings:
    """What is wanted. Each may be `as_is`; `exclusions` are wildcards of the tags that the immutability does not hold for."""

    visibility: str = PRIVATE
    tag_immutability: str = AS_IS
    exclusions: tuple[str, ...] = ()
    scan: str = AS_IS
    encryption: str = AS_IS
    kms_key: str = ""

    @property
    def mutability(self) -> str:
        """The immutability and its exclusions as the API names them; empty for `as_is`."""
        if self.tag_immutability == AS_IS:
            return ""
        return self.tag_immutability.upper() + ("_WITH_EXCLUSION" if self.exclusions else "")

    @property
    def made_with(self) -> tuple[str, str]:
        """The type of encryption and the key that a repository is made with."""
        return ("AES256" if self.encryption == AS_IS else self.encryption), self.kms_key


@dataclass(frozen=True)
class Repository:
    """A repository as it is; `rules` are the registry's scanning rules that hold for it, `scan_type` is the registry's."""

    name: str
    uri: str
    visibility: str = PRIVATE
    mutability: str = "MUTABLE"
    exclusions: tuple[str, ...] = ()
    scan_on_push: bool = False
    encryption: str = "AES256"
    kms_key: str = ""
    scan_type: str = "BASIC"
    rules: tuple[str, ...] = ()

    def is_fixed(self, tag: str) -> bool:
        """Whether a tag, once given, stays where it is."""
        return is_fixed(self.mutability, self.exclusions, tag)

    @property
    def scans(self) -> str:
        """What happens after a push: basic, enhanced, or off."""
        if self.scan_type == "ENHANCED":
            return ENHANCED if ON_PUSH & set(self.rules) else OFF
        return BASIC if self.scan_on_push or ON_PUSH & set(self.rules) else OFF


@dataclass(frozen=True)
class Drift:
    """A setting as it is and as it is wanted, a verdict, and the operation that changes it; empty where none does."""

    setting: str
    now: str
    wanted: str
    verdict: str
    operation: str = ""


def is_fixed(mutability: str, exclusions: Iterable[str], tag: str) -> bool:
    """Whether a tag may not be moved under a mutability (`IMMUTABLE_WITH_EXCLUSION`) and its wildcards."""
    excepted = any(fnmatch.fnmatchcase(tag, one.replace("[", "[[]").replace("?", "[?]")) for one in exclusions)
    return mutability == "IMMUTABLE" or (mutability.endswith("_WITH_EXCLUSION") and mutability.startswith("IMMUTABLE") != excepted)


def client_of(aws: Aws, visibility: str) -> Any:
    """The client of the private registry, or of the public one, which is in us-east-1 whatever the region."""
    if visibility == PRIVATE:
        return aws.client("ecr")
    return aws.client("ecr-public") if aws.region == PUBLIC_REGION else aws.session.client("ecr-public", region_name=PUBLIC_REGION)


def describe(aws: Aws, name: str, visibility: str = PRIVATE) -> Repository | None:
    """The repository of a name; None where there is none."""
    client = client_of(aws, visibility)
    try:
        found = client.describe_repositories(repositoryNames=[name])["repositories"][0]
    except Exception as error:
        if error_code(error) == "RepositoryNotFoundException":
            return None
        raise
    if visibility == PUBLIC:
        return Repository(name, found["repositoryUri"], PUBLIC)
    scan_type, rules = scanning(client, name)
    scans = found.get("imageScanningConfiguration", {}).get("scanOnPush", False)
    return Repository(name, found["repositoryUri"], PRIVATE, found["imageTagMutability"], _filters(found), scans, *encryption_of(found), scan_type, rules)


def encryption_of(described: dict[str, Any]) -> tuple[str, str]:
    """The type of encryption and the key of a repository as DescribeRepositories tells them; AES256 has no key."""
    told = described.get("encryptionConfiguration", {})
    return told.get("encryptionType", "AES256"), told.get("kmsKey", "")


def scanning(client: Any, name: str) -> tuple[str, tuple[str, ...]]:
    """The registry's scan type, and the frequencies of its rules that hold for a repository of this name."""
    told = client.get_registry_scanning_configuration()["scanningConfiguration"]
    return told.get("scanType", "BASIC"), tuple(sorted({rule["scanFrequency"] for rule in told.get("rules", []) if _holds(rule, name)}))


def compare(wanted: Settings, now: Repository | None, registry: tuple[str, tuple[str, ...]] = ("BASIC", ())) -> list[Drift]:
    """Each setting as it is and as it is wanted; `registry` is what `scanning` says, for a repository that does not exist yet.

    Raises `RunbookError` for settings that contradict each other.
    """
    _refuse_contradictions(wanted)
    if wanted.visibility == PUBLIC:
        return [Drift("repository", "there" if now else "none", "there", SAME if now else CHANGED, "" if now else CREATE_PUBLIC), Drift("visibility", PUBLIC, PUBLIC, SAME)]
    if now is None:
        asked = Repository("", "", scan_type=registry[0], rules=registry[1])
        rows = [Drift("repository", "none", "there", CHANGED, CREATE), Drift("visibility", "none", PRIVATE, CHANGED)]
        rows.append(Drift("tag immutability", "none", _told(wanted.mutability or asked.mutability, wanted.exclusions), CHANGED))
        rows.append(Drift("encryption", "none", " ".join(filter(None, wanted.made_with)), CHANGED))
        return [*rows, _scan(wanted, asked, created=True)]
    rows = [Drift("repository", "there", "there", SAME), Drift("visibility", now.visibility, wanted.visibility, SAME)]
    return [*rows, _tags(wanted, now), _encrypted(wanted, now), _scan(wanted, now)]


def drift_table(rows: Iterable[Drift]) -> pd.DataFrame:
    """The settings as a DataFrame: setting, now, wanted, verdict, by."""
    return table([(one.setting, one.now, one.wanted, one.verdict, one.operation) for one in rows], ["setting", "now", "wanted", "verdict", "by"])


def drift_checks(rows: Iterable[Drift]) -> list[Check]:
    """A warning for each setting that can never change."""
    remedy = "A repository keeps it for life: push to a new one with the setting, and delete this one when nobody pulls from it."
    return [Check(f"{one.setting} is as wanted", "warn", f"{one.now}, wanted is {one.wanted}; it {one.verdict}", remedy) for one in rows if one.verdict == NEVER]


def creation(name: str, wanted: Settings) -> dict[str, Any]:
    """The parameters of CreateRepository."""
    if wanted.visibility == PUBLIC:
        return {"repositoryName": name}
    encryption = {"encryptionType": wanted.made_with[0], **({"kmsKey": wanted.kms_key} if wanted.kms_key else {})}
    return {
        "repositoryName": name, "imageScanningConfiguration": {"scanOnPush": wanted.scan == BASIC}, "encryptionConfiguration": encryption,
        **mutability_parameters(wanted.mutability or "MUTABLE", wanted.exclusions),
    }  # fmt: skip


def mutability_parameters(mutability: str, exclusions: Iterable[str]) -> dict[str, Any]:
    """The members that say which tags may move."""
    filters = [{"filterType": "WILDCARD", "filter": one} for one in exclusions]
    return {"imageTagMutability": mutability, **({"imageTagMutabilityExclusionFilters": filters} if filters else {})}


def _filters(found: dict[str, Any]) -> tuple[str, ...]:
    return tuple(one["filter"] for one in found.get("imageTagMutabilityExclusionFilters", []))


def _holds(rule: dict[str, Any], name: str) -> bool:
    """Whether a scanning rule is for a repository: a filter without an asterisk is for names that contain it."""
    filters = [one["filter"] for one in rule.get("repositoryFilters", [])]
    return any(fnmatch.fnmatchcase(name, one if "*" in one else f"*{one}*") for one in filters)


def _refuse_contradictions(wanted: Settings) -> None:
    if wanted.exclusions and wanted.tag_immutability == AS_IS:
        raise RunbookError("tag_exclusions are given, but tag_immutability is as_is.", "Choose immutable (these may move) or mutable (these may not).")
    if len(wanted.exclusions) > MOST_EXCLUSIONS:
        raise RunbookError(f"{len(wanted.exclusions)} tag_exclusions are given, ECR takes {MOST_EXCLUSIONS}.", "Join some with an asterisk.")
    if wanted.kms_key and not wanted.encryption.startswith("KMS"):
        raise RunbookError(f"kms_key is given, but encryption is {wanted.encryption}.", "Choose KMS or KMS_DSSE.")
    if wanted.visibility == PUBLIC and (wanted.tag_immutability, wanted.scan, wanted.encryption) != (AS_IS, AS_IS, AS_IS):
        raise RunbookError("A public repository has no immutability, scan or encryption to choose.", "Leave tag_immutability, scan and encryption as_is.")


def _told(mutability: str, exclusions: Iterable[str]) -> str:
    names = ", ".join(exclusions)
    return mutability.partition("_")[0].lower() + (f" but for {names}" if names else "")


def _tags(wanted: Settings, now: Repository) -> Drift:
    is_now = _told(now.mutability, now.exclusions)
    if not wanted.mutability:
        return Drift("tag immutability", is_now, AS_IS, LEFT)
    same = (now.mutability, sorted(now.exclusions)) == (wanted.mutability, sorted(wanted.exclusions))
    return Drift("tag immutability", is_now, _told(wanted.mutability, wanted.exclusions), SAME if same else CHANGED, "" if same else TAGS)


def _encrypted(wanted: Settings, now: Repository) -> Drift:
    is_now, asked = " ".join(filter(None, [now.encryption, now.kms_key])), " ".join(filter(None, [wanted.encryption, wanted.kms_key]))
    if wanted.encryption == AS_IS:
        return Drift("encryption", is_now, AS_IS, LEFT)
    same = now.encryption == wanted.encryption and (not wanted.kms_key or now.kms_key.endswith(wanted.kms_key.rpartition("/")[2]))
    return Drift("encryption", is_now, asked, SAME if same else NEVER)


def _scan(wanted: Settings, now: Repository, created: bool = False) -> Drift:
    """Basic scans are the repository's setting, enhanced ones the registry's, for all the repositories that its rules name."""
    is_now = "none" if created else now.scans
    if wanted.scan in (AS_IS, now.scans):
        return Drift("scan on push", is_now, wanted.scan, LEFT if wanted.scan == AS_IS else SAME)
    if wanted.scan == ENHANCED:
        return Drift("scan on push", is_now, ENHANCED, f"{CHANGED}, for the whole registry", REGISTRY)
    if now.scan_type == "ENHANCED":
        return Drift("scan on push", is_now, wanted.scan, "the registry scans enhanced; left to it")
    if wanted.scan == OFF and ON_PUSH & set(now.rules):
        return Drift("scan on push", is_now, OFF, "a rule of the registry scans it; left to it")
    return Drift("scan on push", is_now, wanted.scan, CHANGED, "" if created else SCAN)



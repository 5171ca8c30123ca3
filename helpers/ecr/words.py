"""What ECR's refusals mean: one sentence of cause, one of remedy, for the API and for the registry alike.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/common-errors-docker.html
"""

from __future__ import annotations

import re

from helpers.aws import RunbookError, explain
from helpers.aws.errors import REMEDIES, error_code

NOTHING = "Nothing was published"
ACTION = re.compile(r"perform: (ecr[a-z-]*:\w+)")

# By the API's exception, or the registry's code; the first entry that fits. A text is looked for in the message.
DENIED = "Add the action to the caller's policy, or to the repository's; `runbook show ecr_push --policy` prints what is needed."
LOGIN = ("The registry does not know this login (Docker says: no basic auth credentials)", "The repository is of another account or region than the credentials: check `region`, `profile` and `expected_account`.")
KEY = ("The repository's KMS key cannot be used", "Enable the key, and allow the caller kms:GenerateDataKey and kms:Decrypt on it; a repository never changes its key.")
MEANINGS: tuple[tuple[str, str, str, str], ...] = (
    ("RepositoryNotFoundException|NAME_UNKNOWN", "", "The repository does not exist", "Set create_repository, or check its name, the account and the region."),
    ("AccessDenied", "", "An action is denied", DENIED),
    ("KmsException", "", *KEY),
    ("DENIED", "master key", *KEY),
    ("ImageTagAlreadyExistsException|TAG_INVALID", "", "The tag is immutable and names another image", "Push under another tag: each version gets its own."),
    ("LayersNotFoundException|MANIFEST_BLOB_UNKNOWN", "", "A layer that the manifest names is gone from the repository", "Start a new run: it looks again which layers are there."),
    ("ReferencedImagesNotFoundException", "", "An image that the index names is not in the repository", "Push all platforms, children first: leave `platform` empty."),
    ("ImageDigestDoesNotMatchException", "", "The manifest arrived with another digest than it was sent with", "Resume the run; if it happens again, something between here and ECR changes what is sent."),
    ("LimitExceededException", "", "A quota of ECR is used up", "See Service Quotas for ECR: images a repository, tags an image."),
    ("Throttling|TOOMANYREQUESTS|429", "", "ECR asked to slow down, again and again", "Wait a minute and resume the run: what is there is not sent again."),
    ("DENIED|401", "expired", "The registry's token has expired, and a new one was refused too", "Check this machine's clock, sign in again, and resume the run."),
    ("401", "", *LOGIN),
    ("DENIED", "authorization token", *LOGIN),
    ("DENIED", "", "An action is denied", DENIED),
    ("DIGEST_INVALID|BLOB_UPLOAD_INVALID|InvalidLayerException", "", "A layer arrived with another digest than the manifest names", "It changed on disk, or on its way: build or save the image again, then start a new run."),
    ("ImageArchived|MANIFEST_UNKNOWN", "archived", "The image is archived, so nobody can pull it", "Restore it: aws ecr update-image-storage-class --target-storage-class STANDARD, and wait until it is ACTIVE."),
    ("ScanNotFoundException", "", "The image was not scanned", "Set `scan`, or start one: aws ecr start-image-scan."),
)


def refusal(code: str, message: str, what: str, status: int = 0, request_id: str = "") -> RunbookError:
    """A refusal in words: `code` is the API's or the registry's, `what` is what was asked, `status` the HTTP status."""
    message = message.strip().rstrip(".")
    for codes, text, cause, remedy in MEANINGS:
        if any(code.startswith(one) or one == str(status) for one in codes.split("|")) and text in message.lower():
            denied = ACTION.search(message)
            told = f"{cause}{f' ({denied[1]})' if denied else ''}: {message or code or status}. {NOTHING}."
            return RunbookError(told, remedy, request_id)
    told = f"{what} was refused with {code or status}{f': {message}' if message else ''}. {NOTHING}."
    return RunbookError(told, REMEDIES["Throttling"] if status in (500, 502, 503, 504) else "", request_id)


def explain_ecr(error: Exception) -> RunbookError:
    """An error of ECR's API in words; others as everywhere."""
    code = error_code(error)
    if not code:
        return explain(error)
    details = getattr(error, "response", {})
    said = details.get("Error", {}).get("Message", "")
    name = getattr(error, "operation_name", "The call")
    told = refusal(code, said, name, 0, details.get("ResponseMetadata", {}).get("RequestId", ""))
    return told if told.remedy else explain(error)

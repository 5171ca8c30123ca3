"""What ECR refuses: one exception for both planes, with the API's code and the registry's."""

from __future__ import annotations

from typing import Any

# The registry's code and HTTP status for an exception of the API, where a request to /v2 meets it.
# Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes, and what clients print of ECR.
OF_THE_REGISTRY = {
    "AccessDeniedException": ("DENIED", 403),
    "ImageDigestDoesNotMatchException": ("MANIFEST_INVALID", 400),
    "ImageNotFoundException": ("MANIFEST_UNKNOWN", 404),
    "ImageTagAlreadyExistsException": ("TAG_INVALID", 400),
    "InvalidLayerException": ("BLOB_UPLOAD_INVALID", 400),
    "InvalidParameterException": ("MANIFEST_INVALID", 400),
    "KmsException": ("DENIED", 400),
    "LayersNotFoundException": ("MANIFEST_BLOB_UNKNOWN", 404),
    "LimitExceededException": ("DENIED", 400),
    "ReferencedImagesNotFoundException": ("MANIFEST_BLOB_UNKNOWN", 404),
    "RepositoryNotFoundException": ("NAME_UNKNOWN", 404),
    "ThrottlingException": ("TOOMANYREQUESTS", 429),
    "UploadNotFoundException": ("BLOB_UPLOAD_UNKNOWN", 404),
}


class Refused(Exception):
    """A request that ECR refuses: `code` and `members` as in the API's exceptions, `message` the sentence."""

    def __init__(self, code: str, message: str, *, status: int = 400, **members: Any) -> None:
        super().__init__(message)
        self.code, self.message, self.status, self.members = code, message, status, members

    @property
    def of_the_registry(self) -> tuple[str, int]:
        """Return the code and the HTTP status that a request to /v2 is answered with."""
        return OF_THE_REGISTRY.get(self.code, ("UNKNOWN", self.status))


def invalid(parameter: str, constraint: str) -> Refused:
    """Return the refusal of a parameter."""
    return Refused("InvalidParameterException", f"Invalid parameter at '{parameter}' failed to satisfy constraint: '{constraint}'")

"""Errors as sentences: what failed, the likely cause, the remedy and the request id."""

from __future__ import annotations

from botocore import exceptions

REMEDIES = {
    "AccessDenied": "Add the action to the caller's policy; `runbook show` prints the policy a runbook needs.",
    "ExpiredToken": "The credentials have expired: sign in again (`aws sso login`) and resume the run.",
    "InvalidClientTokenId": "The access key is unknown to AWS: check the profile and its credentials.",
    "Throttling": "AWS asked to slow down: wait a minute and resume the run.",
}
ALIASES = {
    "AccessDeniedException": "AccessDenied",
    "UnauthorizedOperation": "AccessDenied",
    "ExpiredTokenException": "ExpiredToken",
    "UnrecognizedClientException": "InvalidClientTokenId",
    "ThrottlingException": "Throttling",
    "RequestLimitExceeded": "Throttling",
}


class RunbookError(Exception):
    """A failure told in sentences: `what`, and where known `remedy` and `request_id`."""

    def __init__(self, what: str, remedy: str = "", request_id: str = "") -> None:
        self.what, self.remedy, self.request_id = what, remedy, request_id
        super().__init__(what, remedy, request_id)

    def __str__(self) -> str:
        parts = [self.what]
        if self.remedy:
            parts.append(f"Remedy: {self.remedy}")
        if self.request_id:
            parts.append(f"(request id {self.request_id})")
        return " ".join(parts)

    def _render_traceback_(self) -> list[str]:
        """IPython shows this instead of a stack of frames."""
        return [f"{type(self).__name__}: {self}"]


def error_code(error: Exception) -> str:
    """The service's error code of a botocore ClientError, else the empty string."""
    return getattr(error, "response", {}).get("Error", {}).get("Code", "")


def is_not_found(error: Exception) -> bool:
    """True where the service says that the thing asked for does not exist."""
    code = error_code(error)
    return "NotFound" in code or code in {"404", "NoSuchEntity", "NoSuchKey", "NoSuchBucket", "NoSuchBucketPolicy", "QueueDoesNotExist"} or code.endswith(".NonExistentQueue")


def explain(error: Exception) -> RunbookError:
    """The error as a `RunbookError`: botocore's errors become a sentence with a remedy."""
    if isinstance(error, RunbookError):
        return error
    if isinstance(error, exceptions.ClientError):
        details = error.response.get("Error", {})
        code = details.get("Code", "Unknown")
        request_id = error.response.get("ResponseMetadata", {}).get("RequestId", "")
        what = f"{error.operation_name} was refused with {code}: {details.get('Message', '').strip()}"
        return RunbookError(what, REMEDIES.get(ALIASES.get(code, code), ""), request_id)
    if isinstance(error, exceptions.NoCredentialsError):
        return RunbookError("No AWS credentials were found.", "Set `profile`, or sign in with `aws sso login`.")
    if isinstance(error, (exceptions.SSOTokenLoadError, exceptions.UnauthorizedSSOTokenError, exceptions.TokenRetrievalError)):
        return RunbookError("The SSO sign-in has expired.", "Run `aws sso login --profile <profile>` and resume the run.")
    if isinstance(error, exceptions.ProfileNotFound):
        return RunbookError(str(error) + ".", "`aws configure list-profiles` names the profiles there are.")
    if isinstance(error, exceptions.EndpointConnectionError):
        return RunbookError(str(error).rstrip(".") + ".", "Check the region, AWS_ENDPOINT_URL and the network.")
    return RunbookError(f"{type(error).__name__}: {error}")

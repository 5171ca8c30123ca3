"""What a fork server imports before it forks: the modules that notebooks use, and botocore's data."""

from __future__ import annotations

import gc
import importlib
import sys
from typing import Any

MODULES = (
    "numpy", "pandas", "matplotlib", "matplotlib.pyplot", "matplotlib.backends.backend_agg", "matplotlib.dates", "boto3", "botocore.session",
    "botocore.httpsession", "botocore.signers", "botocore.regions", "botocore.waiter", "botocore.paginate", "msgspec", "jinja2", "IPython.display",
    "ipykernel.ipkernel", "ipykernel.kernelapp", "ipykernel.zmqshell", "ipykernel.heartbeat", "ipykernel.iostream", "IPython.core.completer",
    "helpers.aws.session", "helpers.aws.waiting", "helpers.runbook.engine", "helpers.runbook.undo", "helpers.runbook.report", "helpers.runbook.timeline",
)  # fmt: skip
# It connects itself to the shell that runs when it is imported, which a fork server has not.
LATER = "matplotlib_inline.backend_inline"
SERVICES = ("sts", "iam", "s3", "cloudwatch", "logs", "ssm", "secretsmanager", "elasticache", "efs", "events", "ecr", "lambda", "sqs")
MODELS = ("service-2", "paginators-1", "waiters-2", "endpoint-rule-set-1")
DATA = ("endpoints", "partitions", "sdk-default-configuration", "_retry")


def load() -> tuple[str, ...]:
    """Import all, and return the top-level names. No session is made: it would hold somebody's credentials.

    Raises `ImportError` where a module is missing, `RuntimeError` where one has done what only a kernel may do.
    """
    for name in MODULES:
        importlib.import_module(name)
    share_models()
    import boto3

    if LATER in sys.modules or boto3.DEFAULT_SESSION is not None:
        raise RuntimeError(f"An import has made a session or loaded {LATER} before the fork.")
    gc.collect()
    gc.freeze()  # else the first collection in a kernel would copy every page that it looks at
    return tuple(dict.fromkeys(name.partition(".")[0] for name in MODULES))


def share_models() -> None:
    """Read botocore's descriptions of services once: each new session begins with them (8 instead of 60 ms a client).

    A session that has another folder of descriptions (AWS_DATA_PATH, ~/.aws/models) reads for itself.
    """
    from botocore.exceptions import DataNotFoundError
    from botocore.loaders import Loader

    from helpers.aws.models import PlainFiles

    shared = Loader(file_loader=PlainFiles())
    for service in SERVICES:
        for kind in MODELS:
            try:
                shared.load_service_model(service, kind)
            except DataNotFoundError:  # not every service has waiters or paginators
                continue
    for name in DATA:
        shared.load_data(name)
    known, plain = dict(shared._cache), Loader.__init__

    def begin(self: Any, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **kwargs)
        if self.search_paths == shared.search_paths:
            self._cache.update(known)

    Loader.__init__ = begin

"""Python SDK and command line for Graft, the model-adaptation service.

from graft import Graft

client = Graft()
data = client.datasets.wait(client.datasets.upload("flowers/"))
job = client.jobs.wait(client.jobs.create(data, method="linear_probe"))
print(client.models.predict(job.model_id, ["photo.jpg"])[0].label)
"""

from graft._version import __version__
from graft.client import Graft
from graft.errors import (
    APIConnectionError,
    APIError,
    AuthenticationError,
    ConflictError,
    DatasetRejectedError,
    DownloadError,
    GraftError,
    ImportRejectedError,
    InsufficientStorageError,
    InvalidRequestError,
    JobCancelledError,
    JobFailedError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    TooLargeError,
    UnavailableError,
    UnsupportedMediaTypeError,
    WaitTimeoutError,
)

__all__ = [
    "APIConnectionError",
    "APIError",
    "AuthenticationError",
    "ConflictError",
    "DatasetRejectedError",
    "DownloadError",
    "Graft",
    "GraftError",
    "ImportRejectedError",
    "InsufficientStorageError",
    "InvalidRequestError",
    "JobCancelledError",
    "JobFailedError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "ServerError",
    "TooLargeError",
    "UnavailableError",
    "UnsupportedMediaTypeError",
    "WaitTimeoutError",
    "__version__",
]

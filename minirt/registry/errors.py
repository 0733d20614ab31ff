"""What a registry answers when it cannot do what it was asked (distribution-spec spec.md#error-codes).

    Refusal(MinirtError)      1    an answer: a status, and JSON with a code that clients know
    ServeError(MinirtError)   1    the server cannot begin, or its files do not say what they should
"""

from __future__ import annotations

from minirt.errors import MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["CODES", "Refusal", "ServeError"]

# code -> (status, message). The codes and messages are the specification's table; the statuses are those of its table
# of end points, or where that leaves a choice those of distribution (github.com/distribution/distribution).
CODES = {
    "BLOB_UNKNOWN": (404, "blob unknown to registry"),
    "BLOB_UPLOAD_INVALID": (400, "blob upload invalid"),
    "BLOB_UPLOAD_UNKNOWN": (404, "blob upload unknown to registry"),
    "DIGEST_INVALID": (400, "provided digest did not match uploaded content"),
    "MANIFEST_BLOB_UNKNOWN": (400, "manifest references a manifest or blob unknown to registry"),
    "MANIFEST_INVALID": (400, "manifest invalid"),
    "MANIFEST_UNKNOWN": (404, "manifest unknown to registry"),
    "NAME_INVALID": (400, "invalid repository name"),
    "NAME_UNKNOWN": (404, "repository name not known to registry"),
    "SIZE_INVALID": (400, "provided length did not match content length"),
    "UNAUTHORIZED": (401, "authentication required"),
    "DENIED": (403, "requested access to the resource is denied"),
    "UNSUPPORTED": (405, "the operation is unsupported"),
    "TOOMANYREQUESTS": (429, "too many requests"),
    # Not of the table: it has no code for a fault of ours. Clients treat a code they do not know as UNKNOWN.
    "UNKNOWN": (500, "unknown error"),
}


class Refusal(MinirtError):
    """An answer that says no.

    Args: code, a word of CODES; reason, what is wrong this time; status, where it is not the code's own; headers,
    further ones for the answer.
    """

    exit_code = 1

    def __init__(self, code: str, reason: str = "", *, status: int = 0, headers: dict[str, str] | None = None) -> None:
        own, self.message = CODES[code]
        super().__init__(reason or self.message)
        self.code = code
        self.reason = reason
        self.status = status or own
        self.headers = headers or {}

    def document(self) -> dict[str, Any]:
        """Return the body: `errors`, a list of code, message and detail."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.reason:
            error["detail"] = self.reason
        return {"errors": [error]}


class ServeError(MinirtError):
    """The server cannot run as it was told."""

    exit_code = 1

"""Every error Filbert raises. Each message is one sentence or two: what happened, why, what to do.

FilbertError
├── BadInput
│   ├── UnknownModel
│   ├── UnknownResponse
│   │   └── UnknownPreviousResponse
│   ├── UnknownRoute
│   ├── BadSetting
│   ├── ContextOverflow
│   ├── BadRequest          the engine refused a request (a broken grammar, a value out of range)
│   ├── Forbidden           a request of a page or name that this server does not serve
│   ├── Unauthorized        a request without a key, or with one that is none
│   ├── BodyTooLarge
│   ├── TooSlow             a request that takes too long to arrive
│   └── NoRoom              no memory beside what is loaded, or no connection beside those there are
├── OfflineRefused
├── DownloadFailed
│   └── HashMismatch
├── DiskFull
├── StoreReadOnly
├── StoreBusy
├── Busy                    too many wait already, or a limit is reached
├── NotReady                a server that still loads, or is about to end
├── DeadlinePassed          an answer took longer than it may
├── HistoryDamaged          the file that keeps the chats is broken
├── BadModelFile
├── EngineError
│   ├── EngineMissing       no engine for this machine
│   ├── EngineMismatch      the installed engine is not the build this Filbert was made for
│   ├── EngineFailed        over a request
│   ├── EngineCrashed
│   ├── EngineStalled
│   └── BadAnswer           what the model wrote is not what it was told to write
├── UpstreamError           another server, which this one asks, failed or answered what cannot be used
│   ├── UpstreamDown        it does not answer
│   ├── UpstreamStalled     it fell silent
│   └── UpstreamLoop        a request came back to a server that it had passed
└── Cancelled
"""

from __future__ import annotations

from collections.abc import Iterator


class FilbertError(Exception):
    """The root. `code` is stable: doors map it to an exit status or an HTTP status."""

    code = "error"
    exit_status = 1
    http_status = 500

    def __init__(self, what: str, *, why: str = "", do: str = "") -> None:
        super().__init__(" ".join(part for part in (what, why, do) if part))
        self.what, self.why, self.do = what, why, do


class BadInput(FilbertError):
    code = "bad_input"
    exit_status = 2
    http_status = 400


class UnknownModel(BadInput):
    code = "unknown_model"
    http_status = 404


class UnknownResponse(BadInput):
    code = "response_not_found"
    http_status = 404


class UnknownPreviousResponse(UnknownResponse):
    code = "previous_response_not_found"
    http_status = 400


class UnknownRoute(BadInput):
    code = "unknown_route"
    http_status = 404


class BadSetting(BadInput):
    code = "bad_setting"


class ContextOverflow(BadInput):
    code = "context_overflow"


class BadRequest(BadInput):
    code = "bad_request"


class Forbidden(BadInput):
    code = "forbidden"
    http_status = 403


class Unauthorized(BadInput):
    code = "unauthorized"
    http_status = 401


class TooSlow(BadInput):
    code = "too_slow"
    http_status = 408


class BodyTooLarge(BadInput):
    code = "body_too_large"
    http_status = 413


class NoRoom(BadInput):
    """retry_after_s: when to ask again."""

    code = "no_room"
    http_status = 503
    retry_after_s = 5


class OfflineRefused(FilbertError):
    code = "offline"
    exit_status = 3
    http_status = 503


class DownloadFailed(FilbertError):
    code = "download_failed"
    exit_status = 4
    http_status = 502


class HashMismatch(DownloadFailed):
    code = "hash_mismatch"


class DiskFull(FilbertError):
    code = "disk_full"
    exit_status = 5
    http_status = 507


class StoreReadOnly(FilbertError):
    code = "store_read_only"
    exit_status = 5


class StoreBusy(FilbertError):
    code = "store_busy"
    exit_status = 5
    http_status = 503


class Busy(FilbertError):
    """retry_after_s: when to ask again."""

    code = "busy"
    exit_status = 5
    http_status = 429

    def __init__(self, what: str, *, why: str = "", do: str = "", retry_after_s: int = 1) -> None:
        super().__init__(what, why=why, do=do)
        self.retry_after_s = retry_after_s


class NotReady(FilbertError):
    """retry_after_s: when to ask again."""

    code = "not_ready"
    exit_status = 5
    http_status = 503
    retry_after_s = 5


class DeadlinePassed(FilbertError):
    code = "deadline_passed"
    exit_status = 7
    http_status = 504


class HistoryDamaged(FilbertError):
    code = "history_damaged"
    exit_status = 5


class BadModelFile(FilbertError):
    code = "bad_model_file"
    exit_status = 6
    http_status = 422


class EngineError(FilbertError):
    code = "engine"
    exit_status = 7


class EngineMissing(EngineError):
    code = "engine_missing"


class EngineMismatch(EngineError):
    code = "engine_mismatch"


class EngineFailed(EngineError):
    """Why is told in the engine's words, which may be those of the request or of its answer."""


class EngineCrashed(EngineError):
    code = "engine_crashed"


class EngineStalled(EngineError):
    code = "engine_stalled"
    http_status = 504


class BadAnswer(EngineError):
    code = "bad_answer"


class UpstreamError(FilbertError):
    code = "upstream"
    exit_status = 4
    http_status = 502


class UpstreamDown(UpstreamError):
    code = "upstream_down"
    http_status = 503


class UpstreamStalled(UpstreamError):
    code = "upstream_stalled"
    http_status = 504


class UpstreamLoop(UpstreamError):
    code = "upstream_loop"
    http_status = 508


class Cancelled(FilbertError):
    code = "cancelled"
    exit_status = 130
    http_status = 499


def of_code(code: str) -> type[FilbertError]:
    """The error that has this code; the root where none has."""
    known = {kind.code: kind for kind in every_kind()}
    return known.get(code, FilbertError)


def every_kind(kind: type[FilbertError] = FilbertError) -> Iterator[type[FilbertError]]:
    """Of the tree, the root last."""
    for inner in kind.__subclasses__():
        yield from every_kind(inner)
    yield kind

"""The exception tree that every part of vodbucket shares.

A class's docstring is its default message, `code` is stable for machines. HTTP statuses are not decided
here: `backend.web.error_responses` owns the one table that maps these classes to them.
"""

from typing import ClassVar


class VodbucketError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)

    @property
    def message(self) -> str:
        """The sentence for people."""
        return str(self)


class ConfigurationError(VodbucketError):
    """A setting is missing or wrong."""

    code = "configuration_error"


# The store


class StoreError(VodbucketError):
    """The object store refused or failed."""

    code = "store_error"


class ObjectNotFound(StoreError):
    """The object does not exist."""

    code = "object_not_found"


class CaptionsNotFound(ObjectNotFound):
    """This video has no uploaded captions in this language."""

    code = "captions_not_found"


class BucketMissing(StoreError):
    """The bucket does not exist."""

    code = "bucket_missing"


class UploadVanished(StoreError):
    """The multipart upload no longer exists: its parts are gone and must be sent again."""

    code = "upload_vanished"


class StoreDenied(StoreError):
    """The object store denies access: check the credentials and the bucket policy."""

    code = "store_denied"


class StoreUnavailable(StoreError):
    """The object store does not answer properly; try again later."""

    code = "store_unavailable"


class SourceChanged(StoreError):
    """The object was replaced while it was being read."""

    code = "source_changed"


# Requests


class BadRequest(VodbucketError):
    """The request is malformed."""

    code = "bad_request"


class InvalidId(BadRequest):
    """This is not a video id."""

    code = "invalid_id"


class InvalidLanguage(BadRequest):
    """This is not a language tag: send one as in BCP 47, for example en or pt-BR."""

    code = "invalid_language"


class InvalidCaptions(BadRequest):
    """These are not captions: send SubRip (SRT) or WebVTT."""

    code = "invalid_captions"


class EmptyUpload(BadRequest):
    """The upload is empty."""

    code = "empty_upload"


class IncompleteUpload(BadRequest):
    """The upload ended before all of its bytes had arrived."""

    code = "incomplete_upload"


class UploadTooLarge(VodbucketError):
    """The upload is larger than this server accepts."""

    code = "upload_too_large"


class UploadNotFound(VodbucketError):
    """There is no such upload; start a new one."""

    code = "upload_not_found"


class UploadExpired(UploadNotFound):
    """This upload was not finished in time, or what was stored of it is gone; start a new one."""

    code = "upload_expired"


class UploadLocked(VodbucketError):
    """Another request is sending this upload; try again in a moment."""

    code = "upload_locked"


class OffsetMismatch(VodbucketError):
    """The upload does not stand at this offset; ask where it stands and go on from there."""

    code = "offset_mismatch"


class LengthFixed(BadRequest):
    """The length of this upload is another, and cannot be changed."""

    code = "length_fixed"


class ChecksumMismatch(VodbucketError):
    """The bytes that arrived are not those that were sent: the checksums differ. Send them again."""

    code = "checksum_mismatch"


class FinalUpload(VodbucketError):
    """This upload was put together from others: nothing can be added to it."""

    code = "final_upload"


class UnsupportedType(VodbucketError):
    """This file is neither a video nor sound."""

    code = "unsupported_type"


class TooManyUploads(VodbucketError):
    """There are as many unfinished uploads as this server allows; finish or delete some first."""

    code = "too_many_uploads"


class StorageFull(VodbucketError):
    """The uploads would take more space than this server allows."""

    code = "storage_full"


class VideoNotFound(VodbucketError):
    """There is no such video."""

    code = "video_not_found"


class SourceGone(VodbucketError):
    """The source of this video is no longer stored, so that there is nothing to encode from."""

    code = "source_gone"


class AlreadyQueued(VodbucketError):
    """This video is queued or being processed already."""

    code = "already_queued"


class TooManyCaptions(VodbucketError):
    """This video has captions in as many languages as it can have; delete some first."""

    code = "too_many_captions"


class NotReady(VodbucketError):
    """The video cannot be played yet."""

    code = "not_ready"


class Unauthorized(VodbucketError):
    """Sign in, or send the admin token as `Authorization: Bearer <token>`."""

    code = "unauthorized"


class GrantRejected(VodbucketError):
    """This playback link is invalid or has expired."""

    code = "grant_rejected"


# Jobs


class LeaseLost(VodbucketError):
    """Another worker has taken this job over."""

    code = "lease_lost"


class VideoDeleted(VodbucketError):
    """The video was deleted while it was being processed."""

    code = "video_deleted"


class JobFailure(VodbucketError):
    """The job failed."""

    code = "job_failed"
    retryable: ClassVar[bool] = True

    def __init__(self, message: str | None = None, *, code: str | None = None) -> None:
        super().__init__(message)
        self.failure_code = code or type(self).code


class AttemptFailed(JobFailure):
    """This attempt failed; another may succeed."""

    code = "attempt_failed"


class SourceRejected(JobFailure):
    """The file is not a video that can be processed."""

    code = "unsupported_media"
    retryable = False

"""The exception tree that every part of vodbucket shares.

A class's docstring is its default message, and `code` never changes. HTTP statuses are not decided here:
`backend.web.error_responses` maps these classes to them. `exit_code` is what a process returns that ends with
the error: 2 for what somebody must set right, 3 for what may pass.
"""

from typing import ClassVar

TOO_LONG_TO_CONVERT = "too_long_to_convert"
"""Also the code of the job."""


class VodbucketError(Exception):
    """Something went wrong. Try again; if that does not help, check the server's log."""

    code: ClassVar[str] = "internal_error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)

    @property
    def message(self) -> str:
        """The sentence for people."""
        return str(self)


class ConfigurationError(VodbucketError):
    """A setting is missing or invalid."""

    code = "configuration_error"
    exit_code = 2


# The store


class StoreError(VodbucketError):
    """The object store could not complete the request."""

    code = "store_error"


class StoreRejected(StoreError):
    """The object store rejected the request. It may not support it."""


class ObjectNotFound(StoreError):
    """The object does not exist."""

    code = "object_not_found"


class CaptionsNotFound(ObjectNotFound):
    """This video has no uploaded captions in this language."""

    code = "captions_not_found"


class BucketMissing(StoreError):
    """The bucket does not exist. Create it, or check its name in the settings."""

    code = "bucket_missing"


class UploadVanished(StoreError):
    """The multipart upload no longer exists and its parts are lost. Send the file again."""

    code = "upload_vanished"


class StoreDenied(StoreError):
    """The object store denied access. Check the credentials and the bucket policy."""

    code = "store_denied"
    exit_code = 2


class ClockSkewed(StoreDenied):
    """This machine's clock differs too much from the store's. Synchronise it with NTP."""


class StoreUnavailable(StoreError):
    """The object store is not responding properly. Try again later."""

    code = "store_unavailable"
    exit_code = 3


class SourceChanged(StoreError):
    """The object was replaced while it was being read."""

    code = "source_changed"


STORE_AWAY = (StoreUnavailable, StoreDenied, BucketMissing)
"""What may pass by itself, or once somebody mends the store, its policy or the credentials."""


# Requests


class BadRequest(VodbucketError):
    """The request is malformed."""

    code = "bad_request"


class InvalidId(BadRequest):
    """This is not a valid id."""

    code = "invalid_id"


class InvalidLanguage(BadRequest):
    """This is not a valid language tag. Use a BCP 47 tag such as en or pt-BR."""

    code = "invalid_language"


class InvalidCaptions(BadRequest):
    """These are not valid captions. Send SubRip (.srt) or WebVTT (.vtt)."""

    code = "invalid_captions"


class InvalidAddress(BadRequest):
    """This address can't be fetched. Use http://, https:// or ftp:// without a password, or a magnet link."""

    code = "invalid_address"


class AddressRefused(BadRequest):
    """Only addresses on the public internet are fetched (ALLOW_PRIVATE_URLS)."""

    code = "address_refused"


class SourceMissing(VodbucketError):
    """There is no such object in this bucket."""

    code = "fetch_not_found"


class SourceDenied(VodbucketError):
    """The store denies access to this object. Check the bucket's policy."""

    code = "fetch_denied"


class EmptyUpload(BadRequest):
    """The upload is empty. Send a file with content."""

    code = "empty_upload"


class IncompleteUpload(BadRequest):
    """The upload was cut off before all of its bytes arrived. Try again."""

    code = "incomplete_upload"


class UploadTooLarge(VodbucketError):
    """The upload is larger than this server accepts."""

    code = "upload_too_large"


class UploadNotFound(VodbucketError):
    """There is no such upload. Start a new one."""

    code = "upload_not_found"


class UploadExpired(UploadNotFound):
    """This upload has expired, or its stored data is gone. Start a new one."""

    code = "upload_expired"


class UploadLinkRejected(VodbucketError):
    """This upload link doesn't work. It may have expired, or its owner has withdrawn it."""

    code = "upload_link_rejected"


class UploadLinkUsedUp(VodbucketError):
    """This upload link has been used as often as its owner allows."""

    code = "upload_link_used_up"


class UploadLinkNotFound(VodbucketError):
    """There is no such upload link."""

    code = "upload_link_not_found"


class UploadLocked(VodbucketError):
    """Another request is sending this upload. Try again in a moment."""

    code = "upload_locked"


class OffsetMismatch(VodbucketError):
    """The upload is at another offset. Ask for its current offset and continue from there."""

    code = "offset_mismatch"


class LengthFixed(BadRequest):
    """The length of this upload is already set and cannot be changed."""

    code = "length_fixed"


class ChecksumMismatch(VodbucketError):
    """The received bytes do not match their checksum. Send them again."""

    code = "checksum_mismatch"


class FinalUpload(VodbucketError):
    """This upload was assembled from others. Nothing can be added to it."""

    code = "final_upload"


class UnsupportedType(VodbucketError):
    """This isn't a video or audio file."""

    code = "unsupported_type"


class TooManyUploads(VodbucketError):
    """This server has reached its limit of unfinished uploads. Finish or delete some first."""

    code = "too_many_uploads"


class StorageFull(VodbucketError):
    """This upload would exceed the server's storage limit. Delete other uploads first."""

    code = "storage_full"


class TooManyConversions(VodbucketError):
    """This server converts as many files as it may. Try again later."""

    code = "too_many_conversions"
    retry_after_seconds: ClassVar[int] = 10


class TooManyFollowers(VodbucketError):
    """Too many clients are following videos. Poll the status instead."""

    code = "too_many_followers"


class VideoNotFound(VodbucketError):
    """There is no such video."""

    code = "video_not_found"


class ImageNotFound(VodbucketError):
    """There is no such image."""

    code = "image_not_found"


class SourceGone(VodbucketError):
    """The uploaded file is no longer stored, so it cannot be encoded again. Upload it again."""

    code = "source_gone"


class AlreadyQueued(VodbucketError):
    """This video is already queued or being processed."""

    code = "already_queued"


class NothingToCancel(VodbucketError):
    """No job of this video waits or runs."""

    code = "nothing_to_cancel"


class FormatNotOffered(VodbucketError):
    """This is only available as JSON."""

    code = "format_not_offered"


class SlugTaken(VodbucketError):
    """This address is taken. Choose another."""

    code = "slug_taken"


class TooManyCaptions(VodbucketError):
    """This video has captions in the maximum number of languages. Delete some first."""

    code = "too_many_captions"


class NoWebhooks(VodbucketError):
    """No worker delivers events. Set WEBHOOK_URLS and WEBHOOK_SECRETS for the workers."""

    code = "no_webhooks"


class NotReady(VodbucketError):
    """This video cannot be played yet."""

    code = "not_ready"


class NotMadeYet(VodbucketError):
    """This part of the video is still being made. Try again in a moment."""

    code = "not_made_yet"
    retry_after_seconds: ClassVar[int] = 1


class Unauthorized(VodbucketError):
    """Sign in, or send your token as `Authorization: Bearer <token>`."""

    code = "unauthorized"


class Forbidden(VodbucketError):
    """Your role does not allow this. Ask an administrator."""

    code = "forbidden"


class PersonNotFound(VodbucketError):
    """There is no such person, or their access was withdrawn."""

    code = "person_not_found"


class PersonExists(VodbucketError):
    """This account already belongs to a person."""

    code = "person_exists"


class AccountRefused(VodbucketError):
    """This account has no access to this server. Ask its administrator."""

    code = "account_refused"


class AccessCodeRejected(VodbucketError):
    """This link no longer works, or never did. Ask the person who sent it for a new one."""

    code = "access_code_rejected"


class PassphraseRequired(VodbucketError):
    """This link needs a passphrase. Send it, percent-encoded, as `Access-Passphrase`."""

    code = "passphrase_required"


class PassphraseWrong(VodbucketError):
    """This is not the link's passphrase."""

    code = "passphrase_wrong"


class AccessCodeNotFound(VodbucketError):
    """There is no such access code."""

    code = "access_code_not_found"


class AccessCodeTaken(VodbucketError):
    """This access code is or was in use. Choose another one, or none: one is then made up."""

    code = "access_code_taken"


class GrantRejected(VodbucketError):
    """This playback link is invalid or has expired. Ask for a new one."""

    code = "grant_rejected"


# Jobs


class LeaseLost(VodbucketError):
    """Another worker has taken over this job."""

    code = "lease_lost"


class VideoDeleted(VodbucketError):
    """The video was deleted while it was being processed."""

    code = "video_deleted"


class MachineFault(VodbucketError):
    """This machine cannot process videos at the moment."""

    code = "machine_fault"


class YtdlpMissing(MachineFault):
    """This worker cannot fetch from web pages: yt-dlp is not installed (pip install yt-dlp)."""

    code = "ytdlp_missing"


class JobFailure(VodbucketError):
    """The job failed."""

    code = "job_failed"

    def __init__(self, message: str | None = None, *, code: str | None = None) -> None:
        super().__init__(message)
        self.failure_code = code or type(self).code


class AttemptFailed(JobFailure):
    """This attempt failed. Another one may succeed."""

    code = "attempt_failed"


class ConversionFailed(JobFailure):
    """The file could not be converted."""


class ConversionTooLong(ConversionFailed):
    """The file is too long to be converted."""

    code = TOO_LONG_TO_CONVERT


class SourceRejected(JobFailure):
    """This file is not a video that can be processed."""

    code = "unsupported_media"

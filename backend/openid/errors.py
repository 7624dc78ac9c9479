"""Why somebody could not sign in through the provider. The site has a sentence for each code."""

from backend.core.errors import VodbucketError


class SignInUnavailable(VodbucketError):
    """The sign-in service can't be reached. Try again later."""

    code = "sign_in_unavailable"


class SignInFailed(VodbucketError):
    """The sign-in service's answer was not valid. Try again."""

    code = "sign_in_failed"


class SignInExpired(VodbucketError):
    """It took too long, or began in another browser. Sign in again."""

    code = "sign_in_expired"


class SignInCancelled(VodbucketError):
    """The sign-in was cancelled."""

    code = "sign_in_cancelled"

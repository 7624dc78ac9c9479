"""Sign-in through the provider, as routes need it: built from the settings if there is a provider."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from backend.core.access.identities import Identities
from backend.core.access.people import People, Role
from backend.core.access.signing_keys import SigningKeys
from backend.core.settings import OidcSettings
from backend.core.store.interface import Store
from backend.openid.attempts import SignInAttempts

if TYPE_CHECKING:
    from backend.openid.provider import Provider


class OpenId:
    """The provider and its name. Without a role for new people, only those who were added come in."""

    def __init__(
        self,
        name: str,
        provider: "Provider",
        attempts: SignInAttempts,
        identities: Identities,
        role_of_new: Role | None,
    ) -> None:
        self.name = name
        self.provider = provider
        self.attempts = attempts
        self.identities = identities
        self.role_of_new = role_of_new

    @classmethod
    def of(
        cls,
        settings: OidcSettings,
        video: Store,
        people: People,
        signing_keys: SigningKeys,
        clock: Callable[[], float],
    ) -> "OpenId | None":
        if settings.oidc_issuer is None or settings.oidc_client_id is None:
            return None
        # Its libraries take a while to load, and most servers have no provider.
        from backend.openid.provider import Client, Provider

        secret = settings.oidc_client_secret
        client = Client(
            settings.oidc_issuer,
            settings.oidc_client_id,
            None if secret is None else secret.get_secret_value(),
            settings.oidc_scopes,
            settings.oidc_allowed,
        )
        return cls(
            settings.oidc_name,
            Provider(client, clock),
            SignInAttempts(signing_keys, clock),
            Identities(video, people, settings.oidc_issuer),
            Role(settings.oidc_role) if settings.oidc_role else None,
        )

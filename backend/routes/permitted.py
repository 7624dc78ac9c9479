"""What people may do with which video, image and upload.

Handlers whose route is not for admins only ask here.
"""

from backend.core import keys
from backend.core.access.people import Role
from backend.core.access.principals import Principal
from backend.core.errors import Forbidden, ImageNotFound, UploadNotFound, VideoNotFound
from backend.core.image_records import Image
from backend.core.library.catalog import owned_by
from backend.routes.services import Services


async def require_visible(services: Services, principal: Principal, video_id: str) -> None:
    """Raises: VideoNotFound: also if they may not know that there is such a video."""
    if principal.role is not Role.ADMIN:
        protection = await services.rights.protection(video_id)
        if protection is None or not principal.sees(*protection):
            raise VideoNotFound


async def require_managed(services: Services, principal: Principal, video_id: str) -> None:
    """Raises: VideoNotFound: as above. Forbidden: they may watch it, and no more."""
    if principal.role is not Role.ADMIN:
        protection = await services.rights.protection(video_id)
        if protection is None or not principal.sees(*protection):
            raise VideoNotFound
        if not principal.manages(protection.owner):
            raise Forbidden("Only the owner of this video and administrators may do this.")


async def require_visible_image(services: Services, principal: Principal, image_id: str) -> Image:
    """Raises: ImageNotFound: also if they may not know that there is such an image."""
    image = await services.images.get(image_id)
    if image is None or not principal.sees(image.owner, image.visibility):
        raise ImageNotFound
    return image


async def require_managed_image(services: Services, principal: Principal, image_id: str) -> None:
    """Raises: ImageNotFound: as above. Forbidden: they may see it, and no more."""
    if principal.role is not Role.ADMIN:  # who may delete what an interrupted deletion has left
        image = await require_visible_image(services, principal, image_id)
        if not principal.manages(image.owner):
            raise Forbidden("Only the owner of this image and administrators may do this.")


async def require_own_upload(services: Services, principal: Principal, upload_id: str) -> None:
    """Raises: UploadNotFound: also if somebody else's upload has this id."""
    if principal.role is not Role.ADMIN:
        upload = await services.resumable.info(upload_id, even_expired=True)
        link = upload.guest.link if upload.guest else None
        if not (link == principal.link if principal.link else principal.manages(upload.owner)):
            raise UploadNotFound


def indexes_for(principal: Principal) -> tuple[str, ...]:
    """Return the indexes of the library that have all videos they may see, and others too."""
    if principal.role is Role.ADMIN:
        return (keys.CATALOG,)
    own = (keys.owned_by(principal.person),) if principal.person else ()
    return (keys.SHARED, *own)


async def managed_videos(services: Services, principal: Principal) -> frozenset[str] | None:
    """Return the videos whose jobs they may follow, or None for all."""
    if principal.role is Role.ADMIN:
        return None
    return await owned_by(services.buckets.video, principal.person) if principal.person else frozenset()

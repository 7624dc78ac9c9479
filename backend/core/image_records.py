"""The JSON records of images (docs/images.md)."""

from enum import StrEnum

from pydantic import AwareDatetime, Field

from backend.core.records import Record, Title, Visibility


class ImageFormat(StrEnum):
    """As in `image/<format>`, and as the suffix of a file."""

    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"
    AVIF = "avif"


class Image(Record):
    """`images/<inverted id>/image.json`, create-only: an image. One without it is deleted.

    Its changes are `images/<inverted id>/revisions/<number>`: each a `Revision`.
    """

    id: str
    title: Title
    format: ImageFormat
    width: int
    height: int
    size_bytes: int
    visibility: Visibility = Visibility.PRIVATE
    slug: str | None = Field(default=None, description="what its addresses may have in place of the id")
    owner: str | None = Field(default=None, description="id of the person who uploaded it; null: an admin")
    created_at: AwareDatetime

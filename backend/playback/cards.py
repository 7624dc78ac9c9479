"""What other sites show of a video: tags for link previews (Open Graph, Twitter), and a player to embed."""

from dataclasses import dataclass
from html import escape
from urllib.parse import quote

from backend.core import keys
from backend.playback.parts import Parts

WIDE = (16, 9)
"""The shape of what has no picture."""
DEFAULT_SIDE = 640
"""An embedded player fits into a square of these pixels, unless another size is asked for."""
POSTER_SIDE = 720
"""What the worker makes: the short side of a poster is no longer, nor is the picture's."""


@dataclass(frozen=True, slots=True)
class Card:
    """A video and its addresses. Its title may contain anything."""

    title: str
    picture: tuple[int, int] | None
    """Width and height in pixels."""
    page_url: str
    embed_url: str
    oembed_url: str
    poster_url: str | None

    @classmethod
    def of(cls, parts: Parts, server: str, name: str, query: str = "") -> "Card":
        """`server` is its address; `query` is empty or begins with a question mark."""
        page_url = f"{server}/watch/{name}{query}"
        return cls(
            title=parts.title,
            picture=parts.picture,
            page_url=page_url,
            embed_url=f"{server}/embed/{name}{query}",
            oembed_url=f"{server}/oembed?url={quote(page_url, safe='')}",
            poster_url=f"{server}/videos/{name}/poster.jpg{query}" if keys.POSTER in parts.files else None,
        )

    def player_size(self, max_width: int | None = None, max_height: int | None = None) -> tuple[int, int]:
        """Return the width and height in pixels of a player that fits."""
        width, height = self.picture or WIDE
        scale = min((max_width or DEFAULT_SIDE) / width, (max_height or DEFAULT_SIDE) / height)
        return max(1, int(width * scale)), max(1, int(height * scale))

    @property
    def poster_size(self) -> tuple[int, int] | None:
        if self.poster_url is None or self.picture is None:
            return None
        width, height = self.picture
        short = min(self.picture)
        side = min(short, POSTER_SIDE)
        return width * side // short // 2 * 2, height * side // short // 2 * 2

    def frame(self, width: int, height: int) -> str:
        """Return the HTML that embeds the player."""
        return (
            f'<iframe src="{escape(self.embed_url)}" width="{width}" height="{height}" '
            f'title="{escape(self.title)}" style="border:0" '
            'allow="autoplay; fullscreen; picture-in-picture" allowfullscreen loading="lazy"></iframe>'
        )

    def tags(self) -> str:
        """Return elements for the head of the video's page (https://ogp.me, Twitter's cards, oEmbed)."""
        width, height = self.player_size()
        properties = {
            "og:site_name": "vodbucket",
            "og:type": "video.other",
            "og:title": self.title,
            "og:url": self.page_url,
            "og:image": self.poster_url,
            "og:video:url": self.embed_url,
            "og:video:secure_url": self.embed_url if self.embed_url.startswith("https:") else None,
            "og:video:type": "text/html",
            "og:video:width": width,
            "og:video:height": height,
        }
        names = {
            "twitter:card": "player",
            "twitter:title": self.title,
            "twitter:image": self.poster_url,
            "twitter:player": self.embed_url,
            "twitter:player:width": width,
            "twitter:player:height": height,
        }
        metas = [
            f'<meta {attribute}="{name}" content="{escape(str(content))}">'
            for attribute, pairs in (("property", properties), ("name", names))
            for name, content in pairs.items()
            if content is not None
        ]
        link = f'<link rel="alternate" type="application/json+oembed" href="{escape(self.oembed_url)}">'
        return "".join((*metas, link))

"""The parts of ffprobe's JSON that we read. Nearly everything is optional: files may leave out anything."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

ALPHA_CODECS = frozenset({"vp8", "vp9"})
"""Their alpha channel is an addition of Matroska."""
COVER_CODECS = frozenset({"bmp", "tiff", "webp", "jpegxl"})
"""Not all programs mark them as covers."""
PNG_CODECS = frozenset({"png", "apng"})
"""Some ffprobe builds cannot decode them."""

FILE_END_ONLY_CONTAINERS = frozenset({"matroska", "flv"})
"""Their headers give the end of the file, not of each stream. ffprobe gives it to streams it has not seen."""


class FfprobeModel(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class SideData(FfprobeModel):
    side_data_type: str = ""
    rotation: float = 0
    """0 also if the picture is upside down as in a mirror."""
    dv_profile: int | None = None
    crop_left: int = 0
    crop_right: int = 0
    crop_top: int = 0
    crop_bottom: int = 0

    @property
    def is_crop(self) -> bool:
        return any((self.crop_left, self.crop_right, self.crop_top, self.crop_bottom))


class Disposition(FfprobeModel):
    attached_pic: int = 0
    timed_thumbnails: int = 0
    default: int = 0
    forced: int = 0


class Tags(FfprobeModel):
    duration: str = Field("", alias="DURATION", description="Matroska's, such as 00:00:30.026000000")
    language: str = ""
    title: str = ""
    creation_time: str = ""
    alpha_mode: str = Field(
        "", description="Matroska's; 1: a second stream in the packets is the alpha channel"
    )
    enc_key_id: str = Field("", description="set for encrypted Matroska tracks")
    apple_creation_date: str = Field("", alias="com.apple.quicktime.creationdate")

    @property
    def recorded_at(self) -> datetime | None:
        """Apple's tag has the local time zone; the other is in UTC, or what the camera takes for it."""
        for text in (self.apple_creation_date, self.creation_time):
            try:
                instant = datetime.fromisoformat(text)
            except ValueError:
                continue
            if instant.year > 1970:  # clocks that were never set start at 1904 or 1970
                return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
        return None


class Stream(FfprobeModel):
    index: int
    id: str = Field("", description="MPEG-TS: the PID")
    codec_type: str = ""
    codec_name: str = ""
    codec_long_name: str = ""
    codec_tag_string: str = ""
    codec_tag: str = ""
    profile: str = ""
    level: int = 0
    is_avc: bool = Field(False, description="H.264 with its parameter sets in the container, as in MP4")
    nb_frames: int | None = None
    width: int = 0
    height: int = 0
    pix_fmt: str = ""
    sample_aspect_ratio: str = "1:1"
    field_order: str = ""
    color_primaries: str = ""
    color_transfer: str = ""
    color_space: str = ""
    color_range: str = ""
    r_frame_rate: str = ""
    avg_frame_rate: str = ""
    start_time: float | None = None
    duration: float | None = None
    channels: int = 0
    channel_layout: str = ""
    sample_rate: int = 0
    tags: Tags = Tags()
    disposition: Disposition = Disposition()
    side_data_list: tuple[SideData, ...] = ()

    def start_after(self, zero: float) -> float:
        return max(0.0, (self.start_time if self.start_time is not None else zero) - zero)

    @property
    def is_media(self) -> bool:
        return self.codec_type in {"audio", "video"}

    @property
    def is_picture(self) -> bool:
        """Covers of music files and thumbnails of chapters do not count."""
        shown = self.disposition
        if self.codec_type != "video" or shown.attached_pic or shown.timed_thumbnails:
            return False
        return self.codec_name not in COVER_CODECS or (self.nb_frames or 1) > 1

    @property
    def is_still(self) -> bool:
        return self.nb_frames == 1 or (self.nb_frames is None and self.avg_frame_rate == "0/0")

    @property
    def is_described(self) -> bool:
        """Whether enough of the stream was found to plan with it."""
        if self.codec_type == "audio":
            return self.channels > 0 and self.sample_rate > 0
        return self.area > 0 and bool(self.pixel_format)

    @property
    def area(self) -> int:
        return self.width * self.height

    @property
    def pixel_format(self) -> str:
        if self.codec_name in ALPHA_CODECS and self.tags.alpha_mode == "1":
            return "yuva420p"
        return self.pix_fmt or ("rgba" if self.codec_name in PNG_CODECS else "")

    @property
    def codec_words(self) -> str:
        """For messages."""
        if not self.codec_name:
            return self.codec_tag_string
        return f"{self.codec_long_name} ({self.codec_name})" if self.codec_long_name else self.codec_name

    @property
    def crop(self) -> SideData:
        """What the container cuts off."""
        return next((data for data in self.side_data_list if data.is_crop), SideData())

    @property
    def has_matrix(self) -> bool:
        """Whether the picture is turned or mirrored: ffprobe leaves out a matrix that changes nothing."""
        return any(data.side_data_type == "Display Matrix" for data in self.side_data_list)

    @property
    def rotation(self) -> int:
        return next((round(data.rotation) for data in self.side_data_list if data.rotation), 0)


class Chapter(FfprobeModel):
    start_time: float = 0
    end_time: float = 0
    tags: Tags = Tags()


class Format(FfprobeModel):
    format_name: str = ""
    start_time: float | None = None
    duration: float | None = None
    size: int = 0
    tags: Tags = Tags()


class Program(FfprobeModel):
    streams: tuple[Stream, ...] = ()


class Report(FfprobeModel):
    streams: tuple[Stream, ...] = ()
    programs: tuple[Program, ...] = ()
    chapters: tuple[Chapter, ...] = ()
    format: Format = Format()

    @property
    def container(self) -> str:
        return self.format.format_name.partition(",")[0]

    @property
    def has_subtitles(self) -> bool:
        return any(stream.codec_type == "subtitle" for stream in self.streams)

    def without(self, indexes: Collection[int]) -> Self:
        return self.model_copy(
            update={"streams": tuple(stream for stream in self.streams if stream.index not in indexes)}
        )

"""The parts of ffprobe's JSON that we read. Nearly everything is optional: files may leave out anything."""

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field


class FfprobeModel(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class SideData(FfprobeModel):
    rotation: float = 0
    dv_profile: int | None = None


class Disposition(FfprobeModel):
    attached_pic: int = 0
    default: int = 0
    forced: int = 0


class Tags(FfprobeModel):
    duration: str = Field("", alias="DURATION", description="Matroska's, such as 00:00:30.026000000")
    language: str = ""
    title: str = ""
    creation_time: str = ""
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
    def is_audio(self) -> bool:
        return self.codec_type == "audio" and self.channels > 0

    @property
    def is_video(self) -> bool:
        """The cover image of a music file does not count."""
        return self.codec_type == "video" and self.width > 0 and not self.disposition.attached_pic

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

"""What the published record tells about the uploaded file: its format, not who recorded it or where."""

from backend.core.records import Chapter, SourceAudio, SourceFile, SourceVideo
from worker.source.media import MediaInfo, VideoInfo


def describe_source(media: MediaInfo, size_bytes: int) -> SourceFile:
    return SourceFile(
        container=media.container,
        size_bytes=size_bytes,
        duration_seconds=media.duration_seconds,
        video=None if media.video is None else _video(media.video),
        audio=tuple(
            SourceAudio(
                codec=track.codec, channels=track.channels, language=track.language, label=track.title
            )
            for track in media.audio
        ),
        recorded_at=media.recorded_at,
    )


def chapters_of(media: MediaInfo, duration_seconds: float) -> tuple[Chapter, ...]:
    """Return the chapters that start before the video ends."""
    return tuple(
        chapter.model_copy(update={"end_seconds": min(chapter.end_seconds, duration_seconds)})
        for chapter in media.chapters
        if chapter.start_seconds < duration_seconds
    )


def _video(video: VideoInfo) -> SourceVideo:
    rate = video.average_fps or video.base_fps
    return SourceVideo(
        codec=video.codec,
        width=video.display_width,
        height=video.display_height,
        fps=None if rate is None else round(float(rate), 3),
        bit_depth=video.bit_depth,
        hdr=video.colour.hdr,
        rotation=video.rotation,
        interlaced=video.interlaced,
    )

"""The inputs of the format matrix by kind: CI tests a sample of each kind, `make soak` all of them."""

_KINDS = {
    "index of an MP4": ("mp4-trailing-index", "mp4-faststart", "mp4-fragmented"),
    "edit list": ("mp4-edit-list",),
    "timecode track": ("mov-timecode",),
    "tracks, captions and chapters": ("mkv-languages",),
    "clock that begins late": ("mkv-from-100-s", "ts-hevc"),
    "recording without a length": ("mkv-live", "webm-live", "flv-no-duration"),
    "WebM": ("webm-vp8-vorbis", "webm-vp9-opus"),
    "codecs of today in MP4": ("mp4-av1", "mp4-vp9-10-bit", "mp4-hevc-10-bit"),
    "AVI": ("avi-mpeg4-mp3", "avi-mjpeg-pcm"),
    "interlaced": ("avi-dv", "ts-mpeg2-interlaced", "h264-interlaced"),
    "streams of broadcasters": ("ts-h264-aac", "mpg-mpeg1", "mxf-mpeg2-pcm", "mxf-mono-tracks"),
    "breaks in a stream": ("ts-joined", "ts-sound-changes"),
    "formats of former players": ("flv-h264-aac", "3gp-h263-amr", "wmv-wmv2-wma", "ogg-theora-vorbis"),
    "no sound": ("gif", "no-sound", "raw-h264"),
    "HDR": ("mp4-hdr10", "mp4-hlg"),
    "ProRes": ("mov-prores-422", "mov-prores-4444"),
    "chroma and bit depth": ("mkv-12-bit", "mp4-444", "mp4-422-10-bit"),
    "range and matrix": ("mp4-full-range", "mp4-bt601", "mkv-rgb"),
    "turned": ("rotated-90", "rotated-180", "mov-turned-and-anamorphic"),
    "size and shape": ("portrait", "odd-size", "anamorphic"),
    "frame rate": ("variable-rate", "120-fps", "23.976-fps"),
    "very short": ("one-frame", "a-fifth-of-a-second"),
    "sound alone": ("sound-m4a", "sound-mp3-no-header", "sound-adts", "sound-flac", "sound-wav"),
    "channels": ("mono", "surround-5.1", "surround-7.1"),
    "late begin": ("sound-late", "picture-late", "picture-late-ts"),
    "different lengths": ("sound-shorter", "sound-longer", "mkv-sound-longer"),
    "real film, 480p": ("film-480p-mkv", "film-480p-flv", "film-480p"),
    "real film, 1080p": ("film-1080p", "film-1080p60"),
}
KIND_OF = {input_id: kind for kind, ids in _KINDS.items() for input_id in ids}
"""The kind of each input."""

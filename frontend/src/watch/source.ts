/** Describes the uploaded file in plain words. */

import type { SourceFile } from '../api/types';
import { formatBytes, formatClock } from '../ui/format';
import { languageName } from './languages';

interface Fact {
  name: string;
  value: string;
}

/** By ffmpeg's demuxer name. */
const CONTAINERS: Record<string, string> = {
  asf: 'WMV',
  caf: 'Core Audio',
  matroska: 'Matroska or WebM',
  mov: 'MP4 or QuickTime',
  mpeg: 'MPEG-PS',
  mpegts: 'MPEG-TS',
  ogg: 'Ogg',
};
/** By ffmpeg's codec name. */
const CODECS: Record<string, string> = {
  ac3: 'Dolby Digital',
  dnxhd: 'DNxHD',
  dts: 'DTS',
  eac3: 'Dolby Digital Plus',
  h264: 'H.264',
  hevc: 'H.265',
  mjpeg: 'Motion JPEG',
  mpeg1video: 'MPEG-1',
  mpeg2video: 'MPEG-2',
  mpeg4: 'MPEG-4',
  opus: 'Opus',
  prores: 'ProRes',
  theora: 'Theora',
  truehd: 'Dolby TrueHD',
  vorbis: 'Vorbis',
};
const CHANNELS: Record<number, string> = { 1: 'mono', 2: 'stereo', 6: '5.1', 8: '7.1' };

export function sourceFacts(source: SourceFile): Fact[] {
  const { video, audio, duration_seconds, recorded_at } = source;
  const facts: Fact[] = [{ name: 'Format', value: CONTAINERS[source.container] ?? source.container.toUpperCase() }];
  if (video !== null) facts.push({ name: 'Video', value: describeVideo(video) });
  if (audio.length > 0) facts.push({ name: 'Audio', value: audio.map(describeAudio).join('; ') });
  if (duration_seconds !== null) facts.push({ name: 'Duration', value: formatClock(Math.round(duration_seconds)) });
  facts.push({ name: 'Size', value: formatBytes(source.size_bytes) });
  if (recorded_at !== null) facts.push({ name: 'Recorded', value: formatDateTime(recorded_at) });
  return facts;
}

function describeVideo(video: NonNullable<SourceFile['video']>): string {
  const parts = [codec(video.codec), `${video.width} × ${video.height}`];
  if (video.fps !== null) parts.push(`${Number(video.fps.toFixed(2))} fps${video.interlaced ? ', interlaced' : ''}`);
  if (video.bit_depth > 8) parts.push(`${video.bit_depth}-bit`);
  if (video.hdr !== null) parts.push(video.hdr.toUpperCase());
  return parts.join(', ');
}

function describeAudio(track: SourceFile['audio'][number]): string {
  const kind = `${codec(track.codec)} ${CHANNELS[track.channels] ?? `${track.channels} channels`}`;
  const name = track.label ?? (track.language === null ? '' : languageName(track.language));
  return name === '' ? kind : `${kind} (${name})`;
}

function codec(name: string): string {
  return CODECS[name] ?? (name.startsWith('pcm_') ? 'PCM' : name.toUpperCase());
}

function formatDateTime(iso: string): string {
  return new Date(iso).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'short' });
}

/** Chapter titles for viewers, and chapters as WebVTT for the player. */

import type { Chapter } from '../api/types';

/** The chapter's title, or its number if it has none. */
export function chapterTitle(chapter: Chapter, index: number): string {
  return chapter.title || `Chapter ${index + 1}`;
}

/** One cue per chapter (WebVTT, section 1.6). */
export function chaptersAsWebvtt(chapters: readonly Chapter[]): string {
  const cues = chapters.map((chapter, index) => {
    const title = chapterTitle(chapter, index).replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
    return `${timestamp(chapter.start_seconds)} --> ${timestamp(chapter.end_seconds)}\n${title}`;
  });
  return ['WEBVTT', ...cues, ''].join('\n\n');
}

/** `01:02:03.450` */
function timestamp(seconds: number): string {
  const whole = Math.round(seconds * 1000);
  const parts = [whole / 3_600_000, (whole / 60_000) % 60, (whole / 1000) % 60];
  const clock = parts.map((part) => String(Math.floor(part)).padStart(2, '0')).join(':');
  return `${clock}.${String(whole % 1000).padStart(3, '0')}`;
}

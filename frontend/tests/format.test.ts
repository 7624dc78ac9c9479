import { describe, expect, it } from 'vitest';

import { formatBytes, formatClock, formatRemaining, formatPercent, formatPosition, parseTime, titleFromFilename } from '../src/ui/format';

describe('sizes', () => {
  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.00 kB'],
    [12_345, '12.3 kB'],
    [123_456, '123 kB'],
    [999_600, '1.00 MB'],
    [9_996_000, '10.0 MB'],
    [200 * 1024 ** 3, '215 GB'],
  ])('formats %i bytes as %s', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });
});

describe('times', () => {
  it.each([
    [0, '0:00'],
    [59.9, '0:59'],
    [245, '4:05'],
    [3723, '1:02:03'],
    [-1, '0:00'],
  ])('formats position %d as %s', (seconds, text) => {
    expect(formatClock(seconds)).toBe(text);
  });

  it.each([
    [0, '1 s left'],
    [59.4, '59 s left'],
    [59.6, '1 min left'],
    [3570, '1 h left'],
    [4800, '1 h 20 min left'],
  ])('formats %d remaining seconds as %s', (seconds, text) => {
    expect(formatRemaining(seconds)).toBe(text);
  });

  it.each([
    ['90', 90],
    ['12.5', 12.5],
    ['90s', 90],
    ['1m30s', 90],
    ['1h2m3s', 3723],
    ['1:30', 90],
    ['1:02:03', 3723],
    ['', null],
    ['soon', null],
    ['-5', null],
    [null, null],
  ])('parses the time %s in a link as %s', (text, seconds) => {
    expect(parseTime(text)).toBe(seconds);
  });
});

it('shows 100% only when everything is done', () => {
  expect([0, 0.999, 1].map(formatPercent)).toEqual(['0%', '99%', '100%']);
});

it('makes a title from the file name without its extension', () => {
  expect(['my_trip.final.mp4', '.hidden', 'plain'].map(titleFromFilename)).toEqual(['my trip.final', '.hidden', 'plain']);
});

describe('a position', () => {
  it.each([
    [0, 29.97, '0:00 / 0:30'],
    [29.2, 29.97, '0:29 / 0:30'],
    [29.97, 29.97, '0:30 / 0:30'],
    [29.93, 29.97, '0:30 / 0:30'],
    [30.4, 30.4, '0:30 / 0:30'],
  ])('of %f in %f is %s', (seconds, total, text) => {
    expect(formatPosition(seconds, total)).toBe(text);
  });
});

it('Uppy counts bytes as the rest of the page does', async () => {
  const { prettierBytes } = await import('@transloadit/prettier-bytes');
  expect(prettierBytes(1_048_576)).toBe('1.05 MB');
});

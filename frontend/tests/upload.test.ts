import { beforeEach, describe, expect, it } from 'vitest';

import { ApiError } from '../src/lib/api/errors';
import type { UploadAnswer } from '../src/lib/api/types';
import { UploadQueue } from '../src/lib/upload/queue.svelte';
import { SpeedMeter } from '../src/lib/upload/speed';
import type { UploadRequest } from '../src/lib/upload/transport';

interface Sending extends UploadRequest {
  finish: (id: string) => void;
  fail: (error: ApiError) => void;
}

/** A transport whose uploads the test ends; it obeys the abort signal as the contract says. */
let sendings: Sending[];
let uploaded: string[];
let unauthorized: number;
let queue: UploadQueue;

beforeEach(() => {
  sendings = [];
  uploaded = [];
  unauthorized = 0;
  queue = new UploadQueue(
    (request) =>
      new Promise<UploadAnswer>((resolve, reject) => {
        request.signal.addEventListener('abort', () => reject(new ApiError('cancelled', 0, 'cancelled')));
        sendings.push({ ...request, finish: (id) => resolve(answer(id)), fail: reject });
      }),
    {
      onUploaded: (item, sentTitle) => uploaded.push(`${item.videoId}: ${sentTitle}`),
      onUnauthorized: () => (unauthorized += 1),
    },
  );
});

function answer(id: string): UploadAnswer {
  return {
    id,
    watch_url: `/watch/${id}`,
    status_url: '',
    playback_url: '',
    download_url: '',
    hls_master_url: '',
    dash_manifest_url: '',
  };
}

const file = (name: string, content = 'bytes') => new File([content], name);
const settle = () => new Promise((resolve) => setTimeout(resolve));
const states = () => queue.items.map((item) => item.state);

describe('the upload queue', () => {
  it('sends one file at a time, in order', async () => {
    queue.add([file('a.mp4'), file('b.mp4')]);
    expect(states()).toEqual(['sending', 'waiting']);
    sendings[0]!.finish('1');
    await settle();
    expect(states()).toEqual(['done', 'sending']);
    expect(sendings.map((sending) => sending.file.name)).toEqual(['a.mp4', 'b.mp4']);
    expect(queue.items[0]!.watchUrl).toBe('/watch/1');
  });

  it('sends the title as edited while it waited, and tells which one was sent', async () => {
    queue.add([file('a.mp4'), file('b.mp4')]);
    queue.items[1]!.title = ' Second ';
    sendings[0]!.finish('1');
    await settle();
    sendings[1]!.finish('2');
    await settle();
    expect(uploaded).toEqual(['1: a', '2: Second']);
  });

  it('shows the progress, and that the last byte is not the end', () => {
    queue.add([file('a.mp4', '0123456789')]);
    sendings[0]!.onProgress(4);
    expect(queue.items[0]!.fraction).toBe(0.4);
    expect(states()).toEqual(['sending']);
    sendings[0]!.onProgress(10);
    expect(states()).toEqual(['storing']);
  });

  it('goes on with the next file after a cancelled one', async () => {
    queue.add([file('a.mp4'), file('b.mp4')]);
    queue.remove(queue.items[0]!);
    await settle();
    expect(sendings[0]!.signal.aborted).toBe(true);
    expect(queue.items.map((item) => item.file.name)).toEqual(['b.mp4']);
    expect(states()).toEqual(['sending']);
  });

  it('keeps a failed file with its error and sends it again on demand', async () => {
    const error = new ApiError('network', 0, 'gone');
    queue.add([file('a.mp4')]);
    sendings[0]!.fail(error);
    await settle();
    expect(states()).toEqual(['failed']);
    expect(queue.items[0]!.error).toBe(error);
    expect(queue.busy).toBe(false);
    queue.retry(queue.items[0]!);
    sendings[1]!.finish('1');
    await settle();
    expect(states()).toEqual(['done']);
    expect(queue.items[0]!.error).toBeNull();
  });

  it('asks for a sign-in when refused, and afterwards sends only what was refused', async () => {
    queue.add([file('a.mp4'), file('b.mp4')]);
    sendings[0]!.fail(new ApiError('unauthorized', 401, 'no'));
    await settle();
    sendings[1]!.fail(new ApiError('network', 0, 'gone'));
    await settle();
    expect(unauthorized).toBe(1);
    queue.retryRefused();
    expect(states()).toEqual(['sending', 'failed']);
  });

  it('refuses an empty file without sending it', async () => {
    queue.add([file('a.mp4', '')]);
    await settle();
    expect(sendings).toHaveLength(0);
    expect(queue.items[0]!.error).toMatchObject({ code: 'empty_upload' });
  });
});

describe('the speed', () => {
  it('is unknown at first, then the rate of the last seconds alone', () => {
    const meter = new SpeedMeter(100_000);
    meter.record(0, 0);
    meter.record(100, 500);
    expect(meter.bytesPerSecond).toBeNull();
    for (let second = 1; second <= 10; second += 1) meter.record(second * 100, second * 1000);
    for (let second = 11; second <= 20; second += 1) meter.record(1000 + (second - 10) * 5000, second * 1000);
    expect(meter.bytesPerSecond).toBe(5000);
    expect(meter.secondsLeft).toBeCloseTo((100_000 - 51_000) / 5000);
  });

  it('gives no time left while nothing moves', () => {
    const meter = new SpeedMeter(1000);
    meter.record(10, 0);
    meter.record(10, 5000);
    expect(meter.bytesPerSecond).toBe(0);
    expect(meter.secondsLeft).toBeNull();
  });
});

it('an error page of a proxy still becomes an error with a code', () => {
  expect(ApiError.from(413, '<html>')).toMatchObject({ code: 'upload_too_large', status: 413 });
  expect(ApiError.from(502, '<html>')).toMatchObject({ code: 'unexpected_answer', status: 502 });
  expect(ApiError.from(400, '{"error":"Empty.","code":"empty_upload"}')).toMatchObject({
    code: 'empty_upload',
    message: 'Empty.',
  });
});

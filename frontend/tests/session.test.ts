import { beforeEach, describe, expect, it } from 'vitest';

import { Api } from '../src/api/client';
import { ApiError } from '../src/api/errors';
import { Session } from '../src/session/session.svelte';

const settle = () => new Promise((resolve) => setTimeout(resolve));

class Door extends Api {
  answer: boolean | ApiError = true;

  override signedIn() {
    return this.answer instanceof ApiError ? Promise.reject(this.answer) : Promise.resolve(this.answer);
  }
}

const unreachable = new ApiError('network', 0, 'no answer');

describe('the sign-in', () => {
  let door: Door;
  let session: Session;

  beforeEach(() => {
    door = new Door('https://vod.example/');
    session = new Session(door);
  });

  it('stays unknown while the server is unreachable, and is checked again', async () => {
    door.answer = unreachable;
    await session.open(null);
    expect([session.signedIn, session.asking]).toEqual([null, false]);
    await session.recheck();
    expect([session.signedIn, session.asking]).toEqual([null, false]);

    door.answer = true;
    await session.recheck();
    expect([session.signedIn, session.asking]).toEqual([true, false]);
  });

  it.each([false, unreachable])('is requested after a 401 (%s)', async (answer) => {
    await session.open(null);
    door.answer = answer;
    session.gate.close();
    await settle();
    expect([session.signedIn, session.asking]).toEqual([false, true]);
  });

  it('is no longer requested after a sign-in in another tab, which reloads the page content', async () => {
    door.answer = false;
    session.gate.close();
    await settle();
    expect(session.asking).toBe(true);

    door.answer = unreachable;
    await session.recheck();
    expect([session.asking, session.gate.closed]).toEqual([true, true]);

    door.answer = true;
    await session.recheck();
    expect([session.asking, session.gate.closed, session.epoch]).toEqual([false, false, 1]);
  });
});

import { beforeEach, describe, expect, it } from 'vitest';

import { Api } from '../src/lib/api/client';
import { ApiError } from '../src/lib/api/errors';
import { Session } from '../src/lib/session.svelte';

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
    door = new Door();
    session = new Session(door);
  });

  it('is not called expired while the server cannot be reached, and is looked for again', async () => {
    door.answer = unreachable;
    await session.open(null);
    expect([session.signedIn, session.asking]).toEqual([null, false]);
    await session.look();
    expect([session.signedIn, session.asking]).toEqual([null, false]);

    door.answer = true;
    await session.look();
    expect([session.signedIn, session.asking]).toEqual([true, false]);
  });

  it.each([false, unreachable])('is asked for when a request was refused (%s)', async (answer) => {
    await session.open(null);
    door.answer = answer;
    session.gate.close();
    await settle();
    expect([session.signedIn, session.asking]).toEqual([false, true]);
  });

  it('is not asked for any more once it was made elsewhere, and what is shown is loaded again', async () => {
    door.answer = false;
    session.gate.close();
    await settle();
    expect(session.asking).toBe(true);

    door.answer = unreachable;
    await session.look();
    expect([session.asking, session.gate.closed]).toEqual([true, true]);

    door.answer = true;
    await session.look();
    expect([session.asking, session.gate.closed, session.epoch]).toEqual([false, false, 1]);
  });
});

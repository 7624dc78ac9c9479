import { beforeEach, describe, expect, it, vi } from 'vitest';

import { Api } from '../src/api/client';
import { ApiError } from '../src/api/errors';
import type { Principal } from '../src/api/types';
import { Session } from '../src/session/session.svelte';

const ADMIN: Principal = { role: 'admin', person: null, name: null };
const UPLOADER: Principal = { role: 'uploader', person: 'ann', name: 'Ann' };
const VIEWER: Principal = { role: 'viewer', person: 'ben', name: 'Ben' };

const settle = () => new Promise((resolve) => setTimeout(resolve));

class Door extends Api {
  answer: Principal | null | ApiError = ADMIN;

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

    door.answer = ADMIN;
    await session.recheck();
    expect([session.signedIn, session.asking]).toEqual([true, false]);
  });

  it.each([null, unreachable])('is requested after a 401 (%s)', async (answer) => {
    await session.open(null);
    door.answer = answer;
    session.gate.close();
    await settle();
    expect([session.signedIn, session.asking]).toEqual([false, true]);
  });

  it('is no longer requested after a sign-in in another tab, which reloads the page content', async () => {
    door.answer = null;
    session.gate.close();
    await settle();
    expect(session.asking).toBe(true);

    door.answer = unreachable;
    await session.recheck();
    expect([session.asking, session.gate.closed]).toEqual([true, true]);

    door.answer = ADMIN;
    await session.recheck();
    expect([session.asking, session.gate.closed, session.epoch]).toEqual([false, false, 1]);
  });

  it('ends in every tab that shares it, and returns to all of them', async () => {
    const other = new Session(door);
    const undo = [session.start('https://vod.example/'), other.start('https://vod.example/')];
    await Promise.all([session.open(null), other.open(null)]);
    vi.spyOn(door, 'signOut').mockResolvedValue();
    vi.spyOn(door, 'signIn').mockResolvedValue();

    await session.signOut();
    await vi.waitFor(() => expect([other.signedIn, other.epoch]).toEqual([false, 2]));
    await session.signIn('token');
    await vi.waitFor(() => expect([other.signedIn, other.epoch]).toEqual([true, 3]));
    undo.forEach((stop) => stop());
  });

  it('that a 401 ends makes pages drop what is private', async () => {
    const undo = session.start('https://vod.example/');
    await session.open(null);
    const epoch = session.epoch;
    door.reportUnauthorized();
    expect([session.signedIn, session.asking, session.epoch]).toEqual([false, true, epoch + 1]);
    undo();
  });

  it('is kept if the server did not end it', async () => {
    await session.open(null);
    vi.spyOn(door, 'signOut').mockRejectedValue(unreachable);
    await expect(session.signOut()).rejects.toBe(unreachable);
    expect(session.signedIn).toBe(true);
  });

  it('tells how long to wait after too many guesses', async () => {
    const body = '{"error":"Too many.","code":"too_many_attempts"}';
    vi.spyOn(door, 'signIn').mockRejectedValue(ApiError.from(429, body, '90'));
    await session.signIn('guess');
    expect(session.problem).toBe('Too many attempts. Try again in 90 seconds.');
  });

  it.each([
    [ADMIN, true, [true, true, true]],
    [UPLOADER, true, [true, false, false]],
    [VIEWER, false, [false, false, false]],
  ])('of %o tells what they may do', async (who, mayUpload, manages) => {
    door.answer = who;
    await session.open(null);
    expect(session.isAdmin).toBe(who === ADMIN);
    expect(session.mayUpload).toBe(mayUpload);
    expect(['ann', 'ben', null].map((owner) => session.manages(owner))).toEqual(manages);
  });

  it('reloads the page content when the role has changed or somebody else has signed in', async () => {
    await session.open(null);
    for (const who of [UPLOADER, { ...UPLOADER, role: 'viewer' } as const]) {
      const epoch = session.epoch;
      door.answer = who;
      await session.recheck();
      await session.recheck();
      expect([session.principal, session.epoch]).toEqual([who, epoch + 1]);
    }
  });
});

import { describe, expect, it, vi } from 'vitest';

import type { Api } from '../src/api/client';
import { ApiError } from '../src/api/errors';
import type { Person } from '../src/api/types';
import { People } from '../src/people/people.svelte';

const person = (name: string, change: Partial<Person> = {}): Person => ({
  id: name.toLowerCase(),
  name,
  role: 'viewer',
  revoked: false,
  created_at: '2026-12-01T00:00:00Z',
  ...change,
});

async function loaded(calls: Partial<Api>): Promise<People> {
  const api = { people: async () => [person('Ann'), person('Eve', { revoked: true }), person('Ben')], ...calls };
  const people = new People(api as unknown as Api);
  await people.load();
  return people;
}

describe('people', () => {
  it('are listed without those whose access was withdrawn', async () => {
    expect((await loaded({})).items).toEqual([person('Ann'), person('Ben')]);
  });

  it('are added with a token that is shown once', async () => {
    const people = await loaded({ addPerson: async (name, role) => ({ ...person(name, { role }), token: 'vb_1' }) });
    expect(await people.add('Cat', 'uploader')).toBe(true);
    expect(people.items?.at(-1)).toEqual(person('Cat', { role: 'uploader' }));
    expect(people.issued).toEqual({ name: 'Cat', token: 'vb_1' });
  });

  it('change their role, or keep it if the server refuses', async () => {
    const changeRole = vi.fn<Api['changeRole']>(async (_, role) => person('Ann', { role }));
    const people = await loaded({ changeRole });
    expect(await people.setRole(person('Ann'), 'admin')).toBe(true);
    changeRole.mockRejectedValue(new ApiError('person_not_found', 404, 'Gone.'));
    expect(await people.setRole(person('Ben'), 'admin')).toBe(false);
    expect(people.items?.map(({ role }) => role)).toEqual(['admin', 'viewer']);
    expect(people.problem).toBeInstanceOf(ApiError);
  });

  it('leave the list when their access is withdrawn, and so does their token', async () => {
    const people = await loaded({ newToken: async () => 'vb_2', withdrawAccess: async () => undefined });
    await people.issueToken(person('Ann'));
    expect(people.issued).toEqual({ name: 'Ann', token: 'vb_2' });
    await people.withdraw(person('Ann'));
    expect([people.items, people.issued]).toEqual([[person('Ben')], null]);
  });
});

/** Who may sign in, for administrators. */

import { Actions } from '../api/actions.svelte';
import type { Api } from '../api/client';
import type { Person, Role } from '../api/types';

export class People extends Actions {
  /** In the order in which they were added, without those whose access was withdrawn; null until they are loaded. */
  items = $state.raw<Person[] | null>(null);
  /** The token that was just made, which the server does not show again. */
  issued = $state.raw<{ name: string; token: string } | null>(null);

  readonly #api: Api;

  constructor(api: Api) {
    super();
    this.#api = api;
  }

  load(): Promise<boolean> {
    return this.run(async () => {
      this.items = (await this.#api.people()).filter(({ revoked }) => !revoked);
    });
  }

  add(name: string, role: Role): Promise<boolean> {
    return this.run(async () => {
      const { token, ...person } = await this.#api.addPerson(name, role);
      this.issued = { name: person.name, token };
      this.items = [...(this.items ?? []), person];
    });
  }

  setRole({ id }: Person, role: Role): Promise<boolean> {
    return this.run(async () => {
      const changed = await this.#api.changeRole(id, role);
      this.items = this.items?.map((person) => (person.id === id ? changed : person)) ?? null;
    });
  }

  issueToken({ id, name }: Person): Promise<boolean> {
    return this.run(async () => {
      this.issued = { name, token: await this.#api.newToken(id) };
    });
  }

  withdraw({ id }: Person): Promise<boolean> {
    return this.run(async () => {
      await this.#api.withdrawAccess(id);
      this.issued = null;
      this.items = this.items?.filter((person) => person.id !== id) ?? null;
    });
  }
}

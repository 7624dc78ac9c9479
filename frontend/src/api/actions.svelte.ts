/** Requests that people make with buttons and forms: one at a time, and why the last one failed. */

import { untrack } from 'svelte';

export class Actions {
  problem = $state.raw<unknown>(null);
  busy = $state(false);

  /** Returns whether the action succeeded. While another one runs, nothing is done. */
  async run(action: () => Promise<void>): Promise<boolean> {
    // An effect that begins an action must not depend on how it goes.
    if (untrack(() => this.busy)) return false;
    this.busy = true;
    this.problem = null;
    try {
      await action();
      return true;
    } catch (error) {
      this.problem = error;
      return false;
    } finally {
      this.busy = false;
    }
  }
}

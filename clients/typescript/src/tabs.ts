import type { Outbox } from './outbox.js';
import type { KeyValueStore } from './types.js';

/** Whether this is a page, with others beside it. */
export const inTab = typeof window !== 'undefined';

/**
 * Tabs share the messages that wait: each holds a lock as long as it lives, so that others know whose are orphans.
 * Answers how to look for orphans, and how to end.
 */
export function shareAmongTabs(name: string, me: string, outbox: Outbox, adopted: () => void): [look: () => void, end: () => void] {
  const locks = globalThis.navigator?.locks as LockManager | undefined;
  if (!locks || !inTab) {
    // One process: whatever is there is its own.
    outbox.adopt(() => false);
    return [() => {}, () => {}];
  }
  let end = (): void => {};
  const held = new Promise<void>((resolve) => (end = resolve));
  locks.request(`${name}/${me}`, () => held).catch(() => {});
  const look = (): void => {
    void locks.request(name, async () => {
      const living = new Set((await locks.query()).held?.map((lock) => lock.name));
      outbox.adopt((owner) => living.has(`${name}/${owner}`));
      adopted();
    });
  };
  return [look, end];
}

/** Where a page may keep things; nowhere in modes that forbid it, and not in Node. */
export function localStore(): KeyValueStore | undefined {
  try {
    return inTab ? globalThis.localStorage : undefined;
  } catch {
    return undefined;
  }
}

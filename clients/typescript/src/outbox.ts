import {
  type Data,
  type KeyValueStore,
  type Overflow,
  PRIORITIES,
  type Priority,
  type SendResult,
  type Target,
  WaystationError,
} from './types.js';

/** As many as a gateway reads without an answer. */
const IN_FLIGHT = 64;

/** A message that waits. */
export interface Entry {
  id: string;
  type: string;
  data: Data;
  priority: Priority;
  to: Target;
  ttlMs?: number;
  /** When it was put in, in milliseconds, and a count: their order. */
  at: number;
  count: number;
  /** The tab that sends it. */
  owner: string;
}

interface Waiting extends Entry {
  /** When it was sent on this connection. */
  sent?: number;
  /** How often it was refused for now. */
  refusals: number;
  kept?: boolean;
  /** Tells `send` that the message is kept for later, or accepted. */
  settle?: ((result: SendResult | WaystationError) => void) | undefined;
}

/** As the protocol says it. */
export const outgoing = ({ id, type, data, priority, to, ttlMs }: Entry) => ({ to, eventType: type, data, priority, messageId: id, ...(ttlMs && { ttlMs }) });

const rank = (entry: Entry): number => PRIORITIES.indexOf(entry.priority);
const before = (a: Entry, b: Entry): number => rank(a) - rank(b) || a.at - b.at || a.count - b.count;

/** Messages that the gateway has not accepted: bounded, by priority, in order, kept in a store that tabs share. */
export class Outbox {
  #waiting: Waiting[] = [];
  #count = 0;

  constructor(
    readonly limit: number,
    readonly overflow: Overflow,
    readonly store: KeyValueStore,
    /** Begins each key of the store. */
    readonly prefix: string,
    readonly owner: string,
    /** What cannot be kept or delivered. */
    readonly trouble: (error: WaystationError, messageId?: string) => void,
  ) {}

  get size(): number {
    return this.#waiting.length;
  }

  push(entry: Omit<Entry, 'count' | 'owner'>, settle?: Waiting['settle']): void {
    const waiting = { ...entry, owner: this.owner, count: (this.#count += 1), refusals: 0, settle };
    if (this.#waiting.some((other) => other.id === entry.id)) {
      throw new WaystationError('ALREADY_WAITING', 'its id waits already', 'messageId');
    }
    if (this.size >= this.limit && !this.#displace(waiting)) {
      throw new WaystationError('QUEUE_FULL', `${this.size} messages wait already`);
    }
    this.#waiting.push(waiting);
    this.#waiting.sort(before);
  }

  #displace(newcomer: Entry): boolean {
    if (this.overflow === 'refuse') return false;
    const free = this.#waiting.filter((entry) => !entry.sent && rank(entry) >= rank(newcomer));
    const lowest = free.filter((entry) => rank(entry) === rank(free.at(-1)!))[0];
    if (lowest) this.refuse(lowest.id, new WaystationError('DISPLACED', 'it made room in the queue'));
    return !!lowest;
  }

  /** Those to send now, marked as sent. */
  *ready(now: number): Generator<Entry> {
    let flying = this.#waiting.filter((entry) => entry.sent).length;
    for (const entry of this.#waiting) {
      if (flying >= IN_FLIGHT) return;
      if (entry.sent) continue;
      flying += 1;
      entry.sent = now;
      yield entry;
    }
  }

  #take(id: string): Waiting | undefined {
    const at = this.#waiting.findIndex((entry) => entry.id === id);
    if (at < 0) return undefined;
    const [entry] = this.#waiting.splice(at, 1);
    if (entry!.kept) this.store.removeItem(this.prefix + id);
    return entry;
  }

  /** It is accepted; answers how long that took. */
  accept(id: string, now: number): number | undefined {
    const entry = this.#take(id);
    entry?.settle?.({ status: 'sent', messageId: id });
    return entry && now - (entry.sent ?? now);
  }

  /** It never will be. */
  refuse(id: string, error: WaystationError): void {
    const entry = this.#take(id);
    if (entry?.settle) entry.settle(error);
    else if (entry) this.trouble(error, id);
  }

  /** It goes again; answers how often it was refused. */
  again(id: string): number {
    const entry = this.#waiting.find((other) => other.id === id);
    if (!entry) return 0;
    delete entry.sent;
    return (entry.refusals += 1);
  }

  /** The connection is gone: all go again, and are kept until then. */
  allAgain(): void {
    for (const entry of this.#waiting) {
      delete entry.sent;
      this.#keep(entry);
    }
  }

  /** Keeps those that have waited for an answer since `since`; answers whether there are any. */
  late(since: number): boolean {
    const late = this.#waiting.filter((entry) => entry.sent && entry.sent <= since);
    late.forEach((entry) => this.#keep(entry));
    return late.length > 0;
  }

  oldestSent(): number | undefined {
    return this.#waiting.reduce<number | undefined>((found, { sent }) => (sent && !(sent > found!) ? sent : found), undefined);
  }

  #keep(entry: Waiting): void {
    if (!entry.kept) {
      const { sent: _, kept: __, refusals: ___, settle: ____, ...plain } = entry;
      try {
        this.store.setItem(this.prefix + entry.id, JSON.stringify(plain));
        entry.kept = true;
      } catch (error) {
        // It still waits in memory.
        this.trouble(new WaystationError('STORAGE_FULL', `${entry.id} is not kept: ${error}`));
      }
    }
    entry.settle?.({ status: 'queued', messageId: entry.id });
    entry.settle = undefined;
  }

  /** Takes over what tabs and processes left that are gone, in its order. */
  adopt(lives: (owner: string) => boolean): void {
    const keys = Array.from({ length: this.store.length }, (_, index) => this.store.key(index));
    for (const key of keys) {
      if (!key?.startsWith(this.prefix) || this.#waiting.some((entry) => this.prefix + entry.id === key)) continue;
      try {
        const entry: Entry = JSON.parse(this.store.getItem(key) ?? 'null');
        if (!entry?.id || !entry.to || lives(entry.owner)) continue;
        this.#waiting.push({ ...entry, owner: this.owner, refusals: 0, kept: true });
        this.store.setItem(key, JSON.stringify({ ...entry, owner: this.owner }));
      } catch {
        this.store.removeItem(key);
        this.trouble(new WaystationError('STORAGE_CORRUPT', `${key} was taken out`));
      }
    }
    this.#waiting.sort(before);
  }

  /** All, most urgent first. */
  all(): readonly Entry[] {
    return this.#waiting;
  }

  /** The client ends: whoever waits for an answer is told. */
  stop(error: WaystationError): void {
    for (const entry of this.#waiting) {
      entry.settle?.(error);
      entry.settle = undefined;
    }
  }
}

/** A store that forgets. */
export class MemoryStore implements KeyValueStore {
  #map = new Map<string, string>();
  getItem = (key: string): string | null => this.#map.get(key) ?? null;
  setItem = (key: string, value: string): void => void this.#map.set(key, value);
  removeItem = (key: string): void => void this.#map.delete(key);
  key = (index: number): string | null => [...this.#map.keys()][index] ?? null;
  get length(): number {
    return this.#map.size;
  }
}

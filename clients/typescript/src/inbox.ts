import { PRIORITIES, type KeyValueStore, type Position, type Priority } from './types.js';

/** Sorted, neither overlapping nor adjacent. */
type Ranges = [from: number, to: number][];

interface Lane {
  /** Highest seen. */
  last: number;
  applied: Ranges;
}

interface Memory {
  /** Oldest first. */
  epochs: [epoch: string, lanes: Record<string, Lane>][];
  /** Handed out and not settled. */
  begun: string[];
  feed?: { epoch: string | null; position: number };
}

/** As many as the store remembers. */
const EPOCHS = 16;
/** A mailbox holds some thousand messages, and each hole is one of them. */
const RANGES = 16_384;

/** Where ranges begin that end at or after `n`. */
function search(ranges: Ranges, n: number): number {
  let [low, high] = [0, ranges.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ranges[middle]![1] < n) low = middle + 1;
    else high = middle;
  }
  return low;
}

export function contains(ranges: Ranges, n: number): boolean {
  const range = ranges[search(ranges, n)];
  return !!range && range[0] <= n;
}

export function insert(ranges: Ranges, from: number, to: number): void {
  if (from > to) return;
  const at = search(ranges, from - 1);
  let count = 0;
  for (let range; (range = ranges[at + count]) && range[0] <= to + 1; count += 1) {
    from = Math.min(from, range[0]);
    to = Math.max(to, range[1]);
  }
  ranges.splice(at, count, [from, to]);
  // The oldest are forgotten, never joined: a message may come twice, none may be skipped.
  if (ranges.length > RANGES) ranges.shift();
}

const keyOf = (p: Position): string => `${p.epoch}/${p.lane}/${p.sequence}`;

/** What a message is: to be handed out, applied before, worked on, or a lie. */
export type Arrival = 'new' | 'in-doubt' | 'applied' | 'in-hand' | 'contradiction';

/** What has been received and applied: each message once, whatever is repeated. */
export class Inbox {
  #memory: Memory = { epochs: [], begun: [] };
  #begun = new Set<string>();
  #inHand = new Map<string, { id: string; since: number }>();

  /** With a store it survives the page or process. A damaged entry throws. */
  constructor(
    readonly store?: KeyValueStore,
    readonly key = '',
  ) {
    const text = store?.getItem(key);
    if (text) {
      this.#memory = JSON.parse(text);
      this.#begun = new Set(this.#memory.begun);
    }
  }

  get inHand(): number {
    return this.#inHand.size;
  }

  /** The one that has been in hand longest. */
  oldest(): { id: string; since: number } | undefined {
    return this.#inHand.values().next().value;
  }

  #lane(epoch: string, lane: Priority): Lane {
    const { epochs } = this.#memory;
    let entry = epochs.find(([known]) => known === epoch);
    if (!entry) {
      if (epochs.length === EPOCHS) epochs.shift();
      epochs.push((entry = [epoch, {}]));
    }
    return (entry[1][lane] ??= { last: 0, applied: [] });
  }

  /** Writes it down, if there is a store. Throws what the store throws. */
  #save(): void {
    this.store?.setItem(this.key, JSON.stringify({ ...this.#memory, begun: [...this.#begun] }));
  }

  arrive(position: Position, id: string, now: number): Arrival {
    const key = keyOf(position);
    const held = this.#inHand.get(key);
    if (held) return held.id === id ? 'in-hand' : 'contradiction';
    const lane = this.#lane(position.epoch, position.lane!);
    if (contains(lane.applied, position.sequence)) return 'applied';
    const inDoubt = this.#begun.has(key);
    lane.last = Math.max(lane.last, position.sequence);
    this.#begun.add(key);
    this.#save();
    this.#inHand.set(key, { id, since: now });
    return inDoubt ? 'in-doubt' : 'new';
  }

  /** It was applied, and must never be handed out again. */
  apply(position: Position): void {
    insert(this.#lane(position.epoch, position.lane!).applied, position.sequence, position.sequence);
    this.giveBack(position);
  }

  /** It comes again later, or never. */
  giveBack(position: Position): void {
    this.#inHand.delete(keyOf(position));
    this.#begun.delete(keyOf(position));
    this.#save();
  }

  /** These have left the mailbox. */
  skip(epoch: string, lane: Priority, from: number, to: number): void {
    const found = this.#lane(epoch, lane);
    found.last = Math.max(found.last, to);
    insert(found.applied, from, to);
    this.#save();
  }

  /** The gateway says that this epoch is the present one. */
  enter(epoch: string): void {
    const { epochs } = this.#memory;
    this.#lane(epoch, 'normal');
    const at = epochs.findIndex(([known]) => known === epoch);
    epochs.push(...epochs.splice(at, 1));
    this.#save();
  }

  last(epoch: string, lane: Priority): number {
    return this.#memory.epochs.find(([known]) => known === epoch)?.[1][lane]?.last ?? 0;
  }

  /** Whether an event of the feed is new; then it is the last. */
  passes(epoch: string, sequence: number): boolean {
    const feed = this.#memory.feed;
    if (feed?.epoch === epoch && sequence <= feed.position) return false;
    this.#memory.feed = { epoch, position: sequence };
    return true;
  }

  /** The gateway says where the feed is. */
  feedIsAt(at: { epoch: string | null; position: number } | undefined, begin = false): void {
    const feed = this.#memory.feed;
    if (at && (!feed || (!begin && (feed.epoch !== at.epoch || feed.position < at.position)))) this.#memory.feed = at;
  }

  /** Where this client stopped, as `auth.resume` says it. */
  resume(): object {
    const { feed } = this.#memory;
    const newest = this.#memory.epochs.at(-1);
    const positions = newest && PRIORITIES.flatMap((lane) => (newest[1][lane]?.last ? [[lane, newest[1][lane].last]] : []));
    return {
      ...(newest && { mailbox: { epoch: newest[0], positions: Object.fromEntries(positions!) } }),
      ...(feed && { feed: { ...feed, epoch: feed.epoch ?? '' } }),
    };
  }

  /** The same in a word, as REST and SSE tell it. */
  cursor(): string {
    const { feed } = this.#memory;
    const newest = this.#memory.epochs.at(-1);
    const lanes = newest && PRIORITIES.map((lane) => newest[1][lane]?.last ?? 0).join('-');
    return `${newest ? `${newest[0]}-${lanes}` : ''}~${feed ? `${feed.epoch ?? 0}-${feed.position}` : ''}`;
  }
}

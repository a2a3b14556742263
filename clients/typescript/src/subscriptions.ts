import type { FeedEvent } from './types.js';

interface Subscription {
  patterns: string[];
  channelIds: string[];
  handler: (event: FeedEvent) => void;
}

const under = (pattern: string, name: string): boolean => pattern === '*' || (pattern.endsWith('.*') && name.startsWith(pattern.slice(0, -1)));

/** Who wants which events of the feed. */
export class Subscriptions {
  #all = new Set<Subscription>();

  add(subscription: Subscription): void {
    this.#all.add(subscription);
  }

  /** Answers the patterns that nobody wants any more. What a wider one covers stays: to end it would take it out of that. */
  remove(subscription: Subscription): string[] {
    if (!this.#all.delete(subscription)) return [];
    const wanted = this.wanted().map(([pattern]) => pattern);
    return subscription.patterns.filter((pattern) => !wanted.some((other) => other === pattern || under(other, pattern)));
  }

  /** Each pattern, with the channels that any subscription wants of it; none: all. */
  wanted(): [string, string[]][] {
    const wanted = new Map<string, string[]>();
    for (const { patterns, channelIds } of this.#all) {
      for (const pattern of patterns) {
        const known = wanted.get(pattern);
        wanted.set(pattern, known && (!known.length || !channelIds.length) ? [] : [...(known ?? []), ...channelIds]);
      }
    }
    return [...wanted];
  }

  dispatch(event: FeedEvent, failed: (error: unknown) => void): void {
    for (const { patterns, channelIds, handler } of [...this.#all]) {
      const other = event.channelId && channelIds.length && !channelIds.includes(event.channelId);
      if (other || !patterns.some((pattern) => pattern === event.type || under(pattern, event.type))) continue;
      try {
        handler(event);
      } catch (error) {
        failed(error);
      }
    }
  }
}

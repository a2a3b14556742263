import { readContent } from './content.js';
import type { Inbox } from './inbox.js';
import { type Message, WaystationError } from './types.js';

/** What a mailbox needs of the connection. */
export interface Port {
  say(type: string, payload: object): void;
  /** Acks are to leave with this turn. */
  acks(): void;
  message(message: Message): void;
  duplicate(): void;
  error(error: WaystationError): void;
  /** One more is settled. */
  settled(): void;
}

/** Messages on their way to handlers: each once, in order, acknowledged when it was applied. */
export class Mailbox {
  /** To be acknowledged with the next frame. */
  readonly acks: string[] = [];
  #handlers = new Set<(message: Message) => unknown>();
  #waiting: Message[] = [];
  #running = 0;

  constructor(
    readonly inbox: Inbox,
    readonly concurrency: number,
    readonly port: Port,
  ) {}

  handle(handler: (message: Message) => unknown): () => void {
    this.#handlers.add(handler);
    this.#run();
    return () => void this.#handlers.delete(handler);
  }

  /** A message that came. Throws if it is none, or contradicts another. */
  take(payload: any, now: number): void {
    const content = readContent(payload);
    const { id, position } = content;
    const arrival = this.#kept(() => this.inbox.arrive(position, id, now));
    if (arrival === 'contradiction') throw new Error(`${id} stands where another message stood`);
    if (arrival === 'applied' || arrival === 'in-hand') {
      this.port.duplicate();
      if (arrival === 'applied') this.ack(id);
      return;
    }
    let open = true;
    const settle = (then: () => void): void => {
      if (!open) return;
      open = false;
      then();
      this.port.settled();
    };
    const back = (verb: string, more: object): void =>
      settle(() => {
        this.inbox.giveBack(position);
        this.port.say(verb, { eventId: id, ...more });
      });
    const message: Message = {
      ...content,
      attempt: payload.attempt ?? 1,
      redelivered: !!payload.redelivered,
      inDoubt: arrival === 'in-doubt',
      ack: () =>
        settle(() => {
          // What is not written down is not acknowledged: it comes again.
          this.#kept(() => this.inbox.apply(position));
          this.ack(id);
        }),
      nack: (delayMs = 0, reason = '') => back('nack', { delayMs, reason: reason.slice(0, 80) }),
      reject: (reason) => back('reject', { reason: reason.slice(0, 80) || 'rejected' }),
      extend: () => this.port.say('extend', { eventId: id }),
    };
    this.port.message(message);
    if (open) {
      this.#waiting.push(message);
      this.#run();
    }
  }

  ack(id: string): void {
    if (this.acks.push(id) === 1) queueMicrotask(this.port.acks);
  }

  /** Does what may fail for want of room. */
  #kept<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw new WaystationError('STORAGE_FULL', `not kept: ${error}`);
    }
  }

  #run(): void {
    while (this.#handlers.size && this.#waiting.length && this.#running < this.concurrency) {
      const message = this.#waiting.shift()!;
      this.#running += 1;
      void (async () => {
        try {
          for (const handler of [...this.#handlers]) await handler(message);
          message.ack();
        } catch (error) {
          message.nack(1000, String(error));
          this.port.error(error instanceof WaystationError ? error : new WaystationError('HANDLER', String(error)));
        }
        this.#running -= 1;
        this.#run();
      })();
    }
  }
}

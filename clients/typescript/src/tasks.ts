/** Tasks that orchestrators hand to each other: to work on them, and to give them away. Needs a WebSocket. */
import type { Waystation } from './client.js';
import { type Data, type Message, WaystationError } from './types.js';

export interface WorkOptions {
  /** What it can do, as names or with version and level. */
  capabilities: (string | { name: string; version?: string; level?: number })[];
  /** Tasks at a time. Default: 1. */
  maxConcurrent?: number;
  region?: string;
  tier?: string;
  /** Says of an offer why it is not taken; nothing: it is. */
  judge?: (offer: Offer) => string | undefined;
}

/** A task as it is offered. */
export interface Offer {
  delegationId: string;
  attempt: number;
  task: { id: string; type: string; description: string; priority: string; payload: any };
  fromOrchestratorId: string | null;
  timeoutMs: number;
  heartbeatMs: number | null;
}

/** A task that this daemon works on. */
export interface Task extends Offer {
  /** Aborted when the task is not wanted any more, is somebody else's, or the line has been down for 45 s. */
  signal: AbortSignal;
  /** Tells how far it is, from 0 to 100. */
  progress(percent: number, message?: string): Promise<void>;
}

/** Whoever has no connection for so long stops: after 60 s the task is given to somebody else. */
const UNCERTAIN = 45_000;
const AGAIN = 2000;

const isForWorker = ({ type, data }: Message): boolean =>
  type === 'delegation.offered' || (type === 'delegation.reassigned' && !('retry' in data)) || (type === 'delegation.cancelled' && !('error' in data));

/** Takes tasks; what `handler` answers is the result, what it throws the failure. */
export function work(client: Waystation, options: WorkOptions, handler: (task: Task) => unknown): { stop: () => Promise<void> } {
  const { judge, maxConcurrent = 1, ...more } = options;
  const running = new Map<string, { attempt: number; ending: AbortController }>();
  const tasks = new Set<Promise<void>>();
  let uncertain: ReturnType<typeof setTimeout> | undefined;

  /** Says it until it is heard or refused; answers whether it counts. */
  const insist = async (type: string, payload: object): Promise<boolean> => {
    for (;;) {
      try {
        return (await client.call(type, payload)).outcome !== 'LATE';
      } catch (error) {
        if ((error as WaystationError).code !== 'TIMEOUT') return false;
        await new Promise((resolve) => setTimeout(resolve, AGAIN));
      }
    }
  };

  const take = async (message: Message, offer: Offer): Promise<void> => {
    const which = { delegationId: offer.delegationId, attempt: offer.attempt };
    const reason = running.size >= maxConcurrent ? 'full' : judge?.(offer);
    if (reason) {
      await insist('delegation_response', { ...which, accepted: false, reason });
      return message.ack();
    }
    const ending = new AbortController();
    running.set(offer.delegationId, { attempt: offer.attempt, ending });
    let percent = 0;
    let beats: ReturnType<typeof setInterval> | undefined;
    try {
      const accepted = await insist('delegation_response', { ...which, accepted: true });
      message.ack();
      if (!accepted) return;
      const progress = async (value: number, said = ''): Promise<void> => {
        percent = value;
        await client.call('delegation_progress', { ...which, progress: value, message: said });
      };
      if (offer.heartbeatMs) beats = setInterval(() => void progress(percent).catch(() => {}), Math.max(100, offer.heartbeatMs / 2));
      const result = await Promise.resolve(handler({ ...offer, signal: ending.signal, progress })).then(
        (value) => ({ status: 'completed', result: value ?? null }),
        (error) => ({ status: 'failed', error: String(error instanceof Error ? error.message : error).slice(0, 200) || 'failed' }),
      );
      if (!ending.signal.aborted) await insist('delegation_result', { ...which, ...result });
    } finally {
      clearInterval(beats);
      if (running.get(offer.delegationId)?.attempt === offer.attempt) running.delete(offer.delegationId);
    }
  };

  const end = (delegationId: string): void => {
    running.get(delegationId)?.ending.abort();
    running.delete(delegationId);
  };

  const offs = [
    client.on('message', (message) => {
      if (!isForWorker(message)) return;
      const offer = message.data as unknown as Offer;
      if (message.type !== 'delegation.offered') {
        end(offer.delegationId);
        return message.ack();
      }
      const taken = take(message, offer).finally(() => tasks.delete(taken));
      tasks.add(taken);
    }),
    // A registry forgets who has been away for long.
    client.on('connected', () => void register()),
    client.on('state', (state) => {
      clearTimeout(uncertain);
      if (state !== 'connected') uncertain = setTimeout(() => [...running.keys()].forEach(end), UNCERTAIN);
    }),
  ];
  const register = (): Promise<void> => client.call('register', { ...more, maxConcurrent }).then(() => {}, () => {});
  if (client.state === 'connected') void register();
  return {
    /** Takes no more tasks, and waits until those that run have ended. */
    stop: async () => {
      await client.call('deregister', {});
      offs.forEach((off) => off());
      await Promise.allSettled([...tasks]);
      clearTimeout(uncertain);
    },
  };
}

/** A task for somebody else. */
export interface DelegationRequest {
  task: { type: string; payload?: Data; id?: string; description?: string; priority?: string };
  /** Default: the task's type. */
  requiredCapabilities?: WorkOptions['capabilities'];
  toOrchestratorId?: string;
  strategy?: string;
  maxRetries?: number;
  limits?: { offerMs?: number; startMs?: number; runMs?: number; overallMs?: number; heartbeatMs?: number };
  /** The same id is the same delegation. Default: a new one. */
  requestId?: string;
}

/** What happens to a task: accepted, rejected, progress, reassigned, context, and at last completed, failed or cancelled. */
export interface Update {
  type: string;
  data: any;
}

const ENDS = ['completed', 'failed', 'cancelled'];

/** A task that was given away. */
export class Delegation {
  #updates: Update[] = [];
  #wake: (() => void) | undefined;
  #over = false;

  constructor(
    readonly client: Waystation,
    readonly id: string,
  ) {}

  /** @internal */
  take(message: Message): void {
    const type = message.type.slice('delegation.'.length);
    this.#updates.push({ type, data: message.data });
    this.#over ||= ENDS.includes(type);
    message.ack();
    this.#wake?.();
  }

  /** @internal */
  stop(): void {
    this.#over = true;
    this.#wake?.();
  }

  /** What happens, up to the end. */
  async *updates(): AsyncGenerator<Update> {
    for (;;) {
      const next = this.#updates.shift();
      if (next) yield next;
      else if (this.#over) return;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** The result; rejects if there is none. */
  async result(): Promise<any> {
    for await (const { type, data } of this.updates()) {
      if (type === 'completed') return data.result;
      if (ENDS.includes(type)) throw new WaystationError(data.state ?? type.toUpperCase(), data.error ?? 'it ended without a result');
    }
    throw this.client.reason ?? new WaystationError('OVER', 'the end was read before');
  }

  /** It is not wanted any more. Whoever works on it is told. */
  async cancel(reason = ''): Promise<void> {
    await this.client.call('delegation_cancel', { delegationId: this.id, reason });
  }
}

/** Gives a task away. */
export async function delegate(client: Waystation, request: DelegationRequest): Promise<Delegation> {
  let delegation = undefined as Delegation | undefined;
  // Word of it may come before the answer.
  const early: Message[] = [];
  const off = client.on('message', (message) => {
    if (!message.type.startsWith('delegation.') || isForWorker(message)) return;
    if (!delegation) early.push(message);
    else if (message.data.delegationId === delegation.id) {
      delegation.take(message);
      if (ENDS.includes(message.type.slice('delegation.'.length))) off();
    }
  });
  client.once('stopped', () => delegation?.stop());
  try {
    const asked = { requestId: crypto.randomUUID(), requiredCapabilities: [request.task.type], ...request, task: { payload: {}, ...request.task } };
    delegation = new Delegation(client, (await client.call('delegate', asked)).delegationId);
  } catch (error) {
    off();
    throw error;
  } finally {
    for (const message of early) {
      if (delegation && message.data.delegationId === delegation.id) delegation.take(message);
      // Somebody else's: it comes again.
      else message.nack(0, 'about another delegation');
    }
  }
  return delegation as Delegation;
}

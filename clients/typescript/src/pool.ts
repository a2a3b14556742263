import type { Waystation } from './client.js';
import { WaystationError } from './types.js';

/** Which of several fitting clients is used. */
export type Strategy = 'load-balance' | 'least-recently-used' | 'round-robin';

export interface PoolOptions {
  /** Makes a client for these tags; the pool connects it. */
  create: (tags: readonly string[]) => Waystation;
  /** Default: load-balance, the one with the shortest queue. */
  strategy?: Strategy;
  /** Clients at a time. A gateway takes five daemons of an orchestrator. Default: 5. */
  most?: number;
  /** Milliseconds after which an unused client is closed. Default: 300,000. */
  idleMs?: number;
}

interface Member {
  client: Waystation;
  tags: readonly string[];
  users: number;
  used: number;
  turn: number;
}

/** Clients that are shared: taken by tags, given back, closed when nobody has used them for long. */
export class Pool {
  #members: Member[] = [];
  #turn = 0;
  #ticker: ReturnType<typeof setInterval>;

  constructor(readonly options: PoolOptions) {
    this.#ticker = setInterval(() => this.#clean(), Math.max(10, (options.idleMs ?? 300_000) / 4));
  }

  /** A connected client that has all these tags, and how to give it back. A new one is made as long as there is room and all are in use. */
  async take(...tags: string[]): Promise<{ client: Waystation; release: () => void }> {
    const fits = (member: Member): boolean => tags.every((tag) => member.tags.includes(tag)) && member.client.state !== 'stopped';
    const fitting = this.#members.filter(fits);
    let member = fitting.find(({ users }) => users === 0) && this.#choose(fitting.filter(({ users }) => users === 0));
    if (!member && this.#members.length < (this.options.most ?? 5)) {
      member = { client: this.options.create(tags), tags, users: 0, used: 0, turn: 0 };
      this.#members.push(member);
      const { client } = member;
      client.on('stopped', () => (this.#members = this.#members.filter((other) => other.client !== client)));
      client.connect();
    }
    member ??= this.#choose(fitting);
    if (!member) throw new WaystationError('POOL_FULL', `${this.#members.length} clients, and none with the tags ${tags}`);
    const taken = member;
    taken.users += 1;
    taken.used = Date.now();
    taken.turn = this.#turn += 1;
    let open = true;
    const release = (): void => {
      if (open) taken.users -= 1;
      open = false;
      taken.used = Date.now();
    };
    try {
      await taken.client.connected();
    } catch (error) {
      release();
      throw error;
    }
    return { client: taken.client, release };
  }

  #choose(members: Member[]): Member | undefined {
    const order: Record<Strategy, (member: Member) => number> = {
      'load-balance': ({ users, client }) => users * 1000 + client.statistics.queued,
      'least-recently-used': ({ used }) => used,
      'round-robin': ({ turn }) => turn,
    };
    const by = order[this.options.strategy ?? 'load-balance'];
    return [...members].sort((a, b) => by(a) - by(b) || a.turn - b.turn)[0];
  }

  get size(): number {
    return this.#members.length;
  }

  #clean(): void {
    const idle = Date.now() - (this.options.idleMs ?? 300_000);
    for (const { client, users, used } of this.#members) if (!users && used <= idle) client.close();
  }

  /** Closes all clients. */
  close(): void {
    clearInterval(this.#ticker);
    for (const { client } of this.#members) client.close();
  }
}

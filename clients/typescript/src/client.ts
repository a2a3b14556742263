import { verdict, type Verdict } from './close.js';
import { readContent } from './content.js';
import { Emitter } from './emitter.js';
import { Inbox } from './inbox.js';
import { Mailbox } from './mailbox.js';
import { complete, type Options, type Settings, socketUrl } from './options.js';
import { MemoryStore, Outbox, outgoing } from './outbox.js';
import { Retry } from './retry.js';
import { Subscriptions } from './subscriptions.js';
import { inTab, localStore, shareAmongTabs } from './tabs.js';
import { TokenKeeper } from './tokens.js';
import type { Listener, Transport, World } from './transport.js';
import {
  type Data,
  type Events,
  type FeedEvent,
  type Frame,
  type Gap,
  type Health,
  type KeyValueStore,
  type Message,
  PRIORITIES,
  type Priority,
  type SendOptions,
  type SendResult,
  type State,
  type Statistics,
  type TransportName,
  WaystationError,
} from './types.js';
import { Watch } from './watch.js';
import { openWebSocket } from './websocket.js';

/** What an answer is for. */
interface Pending {
  type: string;
  at: number;
  /** Of the message that was sent. */
  id?: string;
  /** Of a call, which is made again when the line breaks. */
  call?: { payload: object; resolve: (payload: any) => void; reject: (error: Error) => void };
}

const VERSION = '0.1.0';
/** Gateways redeliver after 30 s without a word. */
const EXTEND = 10_000;
/** A page that closes may send so many bytes (fetch with keepalive). */
const KEEPALIVE = 60_000;
/** Connections that fail in a row before another way is tried. */
const TRIES = 2;
const CALL_TIMEOUT = 30_000;

/** A connection that stays: it comes back, resumes, renews its token, applies each message once, and keeps what is sent. */
export class Waystation extends Emitter<Events> {
  state: State = 'disconnected';
  sessionId: string | undefined;
  /** Why it stopped. */
  reason: WaystationError | undefined;
  readonly options: Settings;
  #world: World;
  #retry: Retry;
  #inbox: Inbox;
  #mailbox: Mailbox;
  #outbox: Outbox;
  #watch: Watch;
  #tokens: TokenKeeper;
  #subscriptions = new Subscriptions();
  #instance = crypto.randomUUID();
  #names: TransportName[];
  /** Index in `#names`, and how often it failed in a row. */
  #way = 0;
  #tries = 0;
  #transport: Transport | undefined;
  /** A better one that is being tried. */
  #better: Transport | undefined;
  #pending = new Map<string, Pending>();
  #frames = 0;
  #met = false;
  #draining = false;
  #ticker: ReturnType<typeof setInterval> | undefined;
  #comeback: ReturnType<typeof setTimeout> | undefined;
  #shown = '';
  #adopt: () => void;
  #release: () => void;
  // Moments, in milliseconds.
  #since = 0;
  #heard = 0;
  #beat = 0;
  #interval = 30_000;
  #probed = 0;
  #checked = 0;
  #extended = 0;
  #upgradeAt = 0;
  #renewAt = Infinity;
  #pausedUntil = 0;
  /** Milliseconds by which the gateway's clock is ahead: it decides when a token ends. */
  #skew = 0;
  // Of the mailbox on this connection.
  #epoch: string | undefined;
  #reached: Record<string, number> | undefined;
  #heads: Record<string, number> | undefined;

  constructor(options: Options) {
    super();
    this.options = complete(options);
    const url = socketUrl(options.url);
    this.#world = {
      url: url.href,
      http: url.origin.replace(/^ws/, 'http'),
      WebSocket: (options.WebSocket ?? globalThis.WebSocket) as typeof WebSocket,
      fetch: options.fetch ?? ((...request) => fetch(...request)),
      cursor: () => this.#inbox.cursor(),
      patterns: () => this.#subscriptions.wanted().map(([pattern]) => pattern),
      token: () => this.#tokens.token,
    };
    this.#names = this.options.transports.filter((name) => name !== 'websocket' || this.#world.WebSocket);
    if (!this.#names.length) throw new WaystationError('OPTION', 'is needed: there is no global WebSocket', 'WebSocket');
    this.#retry = new Retry({ firstMs: 1000, mostMs: 60_000, attempts: 10, restMs: 60_000, ...options.retry });
    this.#watch = new Watch(options.thresholds);
    this.#tokens = new TokenKeeper(options.getToken);
    const name = `waystation/${options.orchestratorId}/${options.daemonId}`;
    const store = options.store ?? localStore() ?? new MemoryStore();
    this.#inbox = this.#remember(options.durable ? store : undefined, `${name}/inbox`);
    this.#mailbox = new Mailbox(this.#inbox, this.options.concurrency, {
      say: (type, payload) => this.#say(type, payload),
      acks: () => this.#flushAcks(),
      message: (message) => this.emit('message', message),
      duplicate: () => void (this.#watch.counts.duplicatesFiltered += 1),
      error: (error) => this.emit('error', error),
      settled: () => this.#finish(),
    });
    const trouble = (error: WaystationError, messageId?: string): void =>
      messageId ? this.emit('undelivered', { messageId, error }) : this.emit('error', error);
    // Tabs are daemons of their own, and share what waits.
    const queue = inTab ? `waystation/${options.orchestratorId}` : name;
    this.#outbox = new Outbox(this.options.queueLimit, this.options.overflow, store, `${queue}/queue/`, this.#instance, trouble);
    [this.#adopt, this.#release] = shareAmongTabs(queue, this.#instance, this.#outbox, () => this.#flush());
  }

  /** A damaged memory of what was applied is put aside: messages may come twice, flagged, and none is lost. */
  #remember(store: KeyValueStore | undefined, key: string): Inbox {
    try {
      return new Inbox(store, key);
    } catch (error) {
      store?.removeItem(key);
      setTimeout(() => this.emit('error', new WaystationError('STORAGE_CORRUPT', `what was applied is forgotten: ${error}`)));
      return new Inbox(store, key);
    }
  }

  /** Starts, or starts again after a stop. It connects in the background and stays connected. */
  connect(): this {
    if (!this.#ticker) {
      this.reason = undefined;
      this.#draining = false;
      this.#tokens.taken();
      this.#ticker = setInterval(() => this.#tick(), Math.min(this.options.healthCheckMs, 1000));
      globalThis.addEventListener?.('pagehide', this.#farewell);
      globalThis.addEventListener?.('online', this.#hurry);
      this.#set('disconnected');
      void this.#open();
    }
    return this;
  }

  /** Resolves once it is logged in; rejects if it stops first. */
  async connected(): Promise<void> {
    if (this.state === 'connected') return;
    if (this.state === 'stopped') throw this.reason;
    await new Promise<void>((resolve, reject) => {
      const offs = [this.on('connected', () => done(resolve)), this.on('stopped', (error) => done(() => reject(error)))];
      const done = (then: () => void): void => (offs.forEach((off) => off()), then());
    });
  }

  /** Connects anew at once, whatever it waits for: for a button, or when the network is back. */
  reconnect(): void {
    if (!this.#ticker) return void this.connect();
    this.#retry.connected();
    this.#drop(1000);
    this.#set('disconnected');
    void this.#open();
  }

  /** Takes no more messages, waits until all that are in hand are settled and all that wait are sent, and leaves. */
  async drain(): Promise<void> {
    this.#draining = true;
    this.#finish();
    if (this.state !== 'stopped') await new Promise<void>((resolve) => this.once('stopped', () => resolve()));
  }

  /** Leaves at once. What waits to be sent stays in the store. */
  close(): void {
    this.#outbox.allAgain();
    this.#say('goodbye', {});
    this.#stop(new WaystationError('CLOSED', 'the client was closed'));
  }

  #finish(): void {
    const asked = [...this.#pending.values()].some((pending) => pending.call);
    if (!this.#draining || this.#inbox.inHand || this.#outbox.size || this.#mailbox.acks.length || asked) return;
    this.#say('goodbye', {});
    this.#stop(new WaystationError('CLOSED', 'the client was drained'));
  }

  #stop(error: WaystationError): void {
    if (this.state === 'stopped') return;
    this.reason = error;
    clearInterval(this.#ticker);
    this.#ticker = undefined;
    globalThis.removeEventListener?.('pagehide', this.#farewell);
    globalThis.removeEventListener?.('online', this.#hurry);
    this.#set('stopped');
    this.#drop(1000);
    for (const { call } of this.#pending.values()) call?.reject(error);
    this.#pending.clear();
    this.#outbox.stop(error);
    this.#release();
    this.#show();
    this.emit('stopped', error);
  }

  #set(state: State): void {
    if (this.state !== state) this.emit('state', (this.state = state));
  }

  #hurry = (): void => {
    if (this.state === 'disconnected') this.reconnect();
  };

  /** Lets the connection go, without a word of it. */
  #drop(code?: number): void {
    const transports = [this.#transport, this.#better];
    this.#transport = this.#better = undefined;
    transports.forEach((transport) => transport?.close(code));
    clearTimeout(this.#comeback);
    this.sessionId = undefined;
    this.#probed = 0;
    this.#outbox.allAgain();
    for (const [id, pending] of this.#pending) if (!pending.call) this.#pending.delete(id);
  }

  async #open(): Promise<void> {
    if (this.state !== 'disconnected') return;
    this.#retry.trying();
    if (this.#retry.breaker === 'half-open') this.emit('breaker', 'half-open');
    this.#set('connecting');
    try {
      await this.#tokens.need();
    } catch (error) {
      const { code, message } = error as WaystationError;
      return code === 'CREDENTIALS_REFUSED' ? this.#stop(error as WaystationError) : this.#lost(0, message, { retry: 0 });
    }
    if (!this.#is('connecting')) return;
    try {
      const transport = await this.#start(this.#names[this.#way]!);
      if (this.#is('connecting')) this.#transport = transport;
      else transport.close();
    } catch (error) {
      this.#lost(1006, String(error), { retry: 0 });
    }
  }

  /** Looks again: what was known before an await may have changed. */
  #is(state: State): boolean {
    return this.state === state;
  }

  /** Opens a transport. What it tells counts while it is the present one. */
  async #start(name: TransportName): Promise<Transport> {
    // Where WebSockets pass, the other ways are never loaded.
    const http = name === 'websocket' ? undefined : (await import('./http.js')).openHttp;
    let transport: Transport | undefined = undefined;
    const listener: Listener = {
      life: () => void (this.#transport === transport && (this.#heard = Date.now())),
      frame: (frame) => {
        if (frame.type === 'auth_success') {
          clearTimeout(timer);
          if (transport && this.#better === transport) this.#upgraded(transport);
        }
        if (this.#transport === transport) this.#take(frame);
      },
      garbage: (problem) => this.#transport === transport && this.#violated(problem),
      closed: (code, reason) => {
        clearTimeout(timer);
        const present = this.#transport === transport;
        // The better way takes this one's place, which the gateway may say first.
        if (present && code === 4009 && this.#better) return void (this.#transport = undefined);
        const left = this.#better === transport && !this.#transport;
        if (this.#better === transport) this.#better = undefined;
        if ((present || left) && this.state !== 'stopped') this.#lost(code, reason, verdict(code));
      },
    };
    const auth = (): Frame => this.#auth();
    const timer = setTimeout(() => transport?.close(), this.options.connectTimeoutMs);
    return (transport = http ? http(this.#world, name as 'sse' | 'poll', auth, listener) : openWebSocket(this.#world, auth, listener));
  }

  #auth(): Frame {
    const { orchestratorId, daemonId, maxInFlight } = this.options;
    const client = { name: '@waystation/client', version: VERSION, instance: this.#instance };
    const payload = { accessToken: this.#tokens.token, orchestratorId, daemonId, client, maxInFlight, resume: this.#inbox.resume() };
    return { type: 'auth', id: this.#id(), payload };
  }

  /** The gateway does not keep to the protocol. */
  #violated(problem: string): void {
    this.emit('error', new WaystationError('GARBAGE', problem));
    this.#retry.violated();
    this.#lost(1002, problem, { retry: 0 });
  }

  /** The connection is gone, or is given up. */
  #lost(code: number, reason: string, what: Verdict, asWished = false): void {
    const was = this.state;
    this.#drop(code);
    if (what === 'stop') return this.#stop(new WaystationError('CLOSED_BY_GATEWAY', `${code} ${reason}`));
    if (what === 'new-token') {
      const refusals = this.#tokens.refused();
      if (!refusals) return this.#stop(new WaystationError('TOKEN_REFUSED', reason || String(code)));
      asWished = refusals === 1;
    } else if (was === 'connecting' && code && this.#names.length > 1 && (this.#tries += 1) >= TRIES) {
      // What does not open twice may be blocked, if the gateway is there at all.
      this.#tries = 0;
      const next = (this.#way + 1) % this.#names.length;
      this.#world.fetch(`${this.#world.http}/.well-known/jwks.json`, { mode: 'no-cors' }).then(
        () => (this.#way = next),
        () => {},
      );
    }
    const atLeast = typeof what === 'object' ? what.retry : 0;
    const after = asWished ? atLeast : this.#retry.failed(atLeast, this.options.random());
    if (this.#retry.breaker === 'open') this.emit('breaker', 'open');
    this.#set('disconnected');
    this.emit('disconnected', { code, reason, after, failures: this.#retry.failures });
    this.#show();
    this.#comeback = setTimeout(() => void this.#open(), after);
  }

  /** The better way is open, and takes over. */
  #upgraded(better: Transport): void {
    this.#better = undefined;
    this.#drop();
    this.#transport = better;
    this.#way = 0;
  }

  async #renew(): Promise<void> {
    this.#renewAt = Infinity;
    try {
      await this.#tokens.get('renewal');
      this.#say('auth_refresh', { accessToken: this.#tokens.token });
    } catch (error) {
      this.emit('error', error as WaystationError);
      this.#renewAt = Date.now() + 5000;
    }
  }

  /** Plans the renewal with a fifth of the token's time left, but never without pause. */
  #plan(): void {
    const now = Date.now();
    const left = this.#tokens.expires === undefined ? Infinity : this.#tokens.expires - this.#skew - now;
    this.#renewAt = now + Math.max(1000, left * 0.8);
  }

  #clocks(serverTime: string | undefined): void {
    if (serverTime) this.#skew = Date.parse(serverTime) - Date.now() || 0;
  }

  #id(): string {
    return String((this.#frames += 1));
  }

  /** Sends a frame if there is a connection. */
  #say(type: string, payload: object, more?: Partial<Pending>): void {
    if (this.state !== 'connected') return;
    const frame = { type, id: this.#id(), timestamp: new Date().toISOString(), payload };
    if (type !== 'ack' || more) this.#pending.set(frame.id, { type, at: Date.now(), ...more });
    // Most frames are never answered.
    if (this.#pending.size > 1000) for (const [id, { call, type }] of this.#pending) if (!call && type !== 'send' && this.#pending.size > 500) this.#pending.delete(id);
    try {
      this.#transport?.send(frame);
    } catch {
      // It is closing; its end is told.
    }
  }

  #take(frame: Frame): void {
    const pending = frame.replyTo === undefined ? undefined : this.#pending.get(frame.replyTo);
    if (pending) this.#pending.delete(frame.replyTo!);
    const payload = frame.payload ?? {};
    try {
      switch (frame.type) {
        case 'event':
          this.#watch.counts.messagesReceived += 1;
          return payload.log === 'feed' ? this.#feedEvent(payload) : this.#mail(payload);
        case 'gap':
          return this.#gap(payload);
        case 'auth_success':
          return this.#welcome(payload);
        case 'auth_error':
          return this.#refusedLogin(payload);
        case 'heartbeat_ack':
          return this.#beaten(payload, pending);
        case 'replay_complete':
          this.#reached = { ...payload.heads };
          return;
        case 'send_ack':
          return this.#accepted(payload);
        case 'ack_result':
          return pending && this.#watch.answered(Date.now() - pending.at, Date.now());
        case 'auth_refreshed':
          this.#plan();
          return this.emit('tokenRenewed', undefined);
        case 'reconnect':
          return this.#leave(payload);
        case 'error':
        case 'rate_limit':
          return this.#refused(frame, pending);
        default:
          // Answers to calls; and what a newer gateway says, which is not known here.
          return pending?.call?.resolve(payload);
      }
    } catch (error) {
      // What cannot be kept is not acknowledged, and comes again; what cannot be read is no frame.
      if (error instanceof WaystationError) this.emit('error', error);
      else this.#violated(`${frame.type}: ${error}`);
    }
  }

  #welcome(payload: any): void {
    if (this.#retry.breaker !== 'closed') this.emit('breaker', 'closed');
    this.#retry.connected();
    this.#tokens.taken();
    this.#watch.letIn();
    this.#tries = 0;
    const now = (this.#since = this.#heard = this.#beat = this.#extended = Date.now());
    this.#upgradeAt = now + this.options.upgradeMs;
    this.#interval = payload.heartbeatIntervalMs ?? this.#interval;
    this.#epoch = payload.epoch;
    this.#reached = this.#heads = undefined;
    this.sessionId = payload.sessionId;
    if (payload.epoch) this.#inbox.enter(payload.epoch);
    this.#inbox.feedIsAt(payload.feed, true);
    this.#clocks(payload.serverTime);
    if (Math.abs(this.#skew) > 60_000) this.emit('clockSkew', this.#skew);
    this.#plan();
    if (this.#met) this.#watch.counts.reconnectCount += 1;
    this.#met = true;
    this.#set('connected');
    const transport = this.#transport!.name;
    this.emit('transport', transport);
    this.emit('connected', { sessionId: payload.sessionId, resumed: !!payload.resumed, transport });
    if (payload.gap) this.emit('possiblyLost', undefined);
    const calls = [...this.#pending.values()].filter((pending) => pending.call);
    this.#pending.clear();
    for (const pending of calls) this.#say(pending.type, pending.call!.payload, pending);
    this.#sayWanted(() => true);
    this.#adopt();
    this.#flushAcks();
    this.#flush();
    this.#show();
  }

  #refusedLogin({ code, message }: { code: string; message: string }): void {
    const close = { AUTH_FAILED: 4001, TOKEN_EXPIRED: 4003, INSUFFICIENT_SCOPE: 4005, MAX_CONNECTIONS: 4004 }[code] ?? 1006;
    this.#lost(close, `${code}: ${message}`, verdict(close));
  }

  #leave({ reason = '', delay = 0 }: { reason?: string; delay?: number }): void {
    this.#flushAcks();
    this.emit('lameDuck', { reason, after: delay });
    // A gateway that sends clients away as soon as they come is a failing one.
    this.#lost(1000, reason, { retry: delay }, Date.now() - this.#since > 5000);
  }

  #refused(frame: Frame, pending: Pending | undefined): void {
    const { code = 'RATE_LIMITED', message, details, action, retryAfter } = frame.payload ?? {};
    const error = new WaystationError(details?.error ?? code, message ?? `too many: ${action}`, details?.field);
    const now = Date.now();
    if (pending?.id) {
      this.#watch.failed(now);
      const passes = code === 'RATE_LIMITED' || code === 'INTERNAL_ERROR';
      const refusals = passes ? this.#outbox.again(pending.id) : 0;
      // A mailbox that stays full would hold up what is for others.
      if (!passes || (details?.error === 'MAILBOX_FULL' && refusals > 4)) return this.#outbox.refuse(pending.id, error);
      this.#pausedUntil = now + (retryAfter ? retryAfter * 1000 : Math.min(30_000, 250 * 2 ** refusals));
      return void setTimeout(() => this.#flush(), this.#pausedUntil - now + 1);
    }
    if (pending?.type === 'auth_refresh') this.#renewAt = now + 5000;
    if (pending?.call) pending.call.reject(error);
    else if (!['nack', 'extend', 'reject', 'heartbeat'].includes(pending?.type ?? '')) this.emit('error', error);
  }

  /** Calls `handler` with each message, in order. It is acknowledged when the handler ends, given back when it throws. */
  onMessage(handler: (message: Message) => unknown): () => void {
    return this.#mailbox.handle(handler);
  }

  #mail(payload: any): void {
    if (this.#reached && payload.epoch === this.#epoch) this.#reached[payload.lane] = payload.sequence;
    // While draining it is left alone: it comes again, to whoever is here then.
    if (!this.#draining) this.#mailbox.take(payload, Date.now());
  }

  #flushAcks(): void {
    const { acks } = this.#mailbox;
    while (this.state === 'connected' && acks.length) this.#say('ack', { eventIds: acks.splice(0, 1000) });
    this.#finish();
  }

  #gap(gap: Gap): void {
    if (gap.log !== 'feed') {
      if (gap.epoch && gap.lane && gap.from && gap.to) this.#inbox.skip(gap.epoch, gap.lane, gap.from, gap.to);
      if (this.#reached && gap.lane) this.#reached[gap.lane] = Math.max(this.#reached[gap.lane] ?? 0, gap.to ?? 0);
      if (gap.eventId) this.#mailbox.ack(gap.eventId);
    }
    this.emit('gap', gap);
  }

  /** Calls `handler` with each event that fits, in the order of the feed, each once; answers how to end that. */
  subscribe(patterns: string | string[], handler: (event: FeedEvent) => void, channelIds: string[] = []): () => void {
    const subscription = { patterns: [patterns].flat(), channelIds, handler };
    const say = (): void => this.#sayWanted((pattern) => subscription.patterns.includes(pattern));
    this.#subscriptions.add(subscription);
    say();
    return () => {
      const gone = this.#subscriptions.remove(subscription);
      if (gone.length) this.#say('unsubscribe', { eventTypes: gone });
      say();
    };
  }

  #sayWanted(which: (pattern: string) => boolean): void {
    for (const [pattern, channelIds] of this.#subscriptions.wanted()) {
      if (which(pattern)) this.#say('subscribe', { eventTypes: [pattern], ...(channelIds.length && { channelIds }) });
    }
  }

  #feedEvent(payload: any): void {
    const event = readContent(payload);
    if (!this.#inbox.passes(event.position.epoch, event.position.sequence)) return void (this.#watch.counts.duplicatesFiltered += 1);
    this.emit('event', event);
    this.#subscriptions.dispatch(event, (error) => this.emit('error', new WaystationError('HANDLER', String(error))));
  }

  /**
   * Sends a message, online or not, once, whatever happens to the line. Resolves `sent` when the gateway has accepted it,
   * `queued` when it waits for a connection; rejects if it is refused.
   */
  async send(type: string, data: Data, options: Priority | SendOptions = {}): Promise<SendResult> {
    const more: SendOptions = typeof options === 'string' ? { priority: options } : options;
    const { priority = 'normal', to = this.options.to, messageId = crypto.randomUUID(), ttlMs } = more;
    if (!to) throw new WaystationError('INVALID_MESSAGE', 'must name an orchestrator or a channel', 'to');
    if (!PRIORITIES.includes(priority)) throw new WaystationError('INVALID_MESSAGE', 'is no priority', 'priority');
    if (this.state === 'stopped') throw this.reason;
    return new Promise((resolve, reject) => {
      const settle = (result: SendResult | Error): void => (result instanceof Error ? reject(result) : resolve(result));
      this.#outbox.push({ id: messageId, type, data, priority, to, at: Date.now(), ...(ttlMs && { ttlMs }) }, settle);
      if (this.state === 'connected') this.#flush();
      else this.#outbox.allAgain();
    });
  }

  #flush(): void {
    const now = Date.now();
    if (this.state !== 'connected' || now < this.#pausedUntil) return;
    for (const entry of this.#outbox.ready(now)) this.#say('send', outgoing(entry), { id: entry.id });
  }

  #accepted({ messageId }: { messageId: string }): void {
    const now = Date.now();
    const took = this.#outbox.accept(messageId, now);
    if (took === undefined) return;
    this.#watch.counts.messagesSent += 1;
    this.#watch.answered(took, now);
    this.emit('accepted', { messageId });
    this.#flush();
    this.#finish();
  }

  /** What must go when the page closes: acks and messages that wait, as far as a page may. */
  #farewell = (): void => {
    let room = KEEPALIVE;
    const last = (method: string, path: string, body: object): void => {
      room -= JSON.stringify(body).length;
      if (room > 0) this.#request(method, path, body, { keepalive: true }).catch(() => {});
    };
    // Those that are not heard stay in the store, and the next page sends them under the same ids.
    this.#outbox.allAgain();
    if (this.#mailbox.acks.length) last('DELETE', '/api/daemon/events', { eventIds: this.#mailbox.acks });
    for (const entry of this.#outbox.all()) {
      const { to, ttlMs: _, ...rest } = outgoing(entry);
      last('POST', '/api/daemon/messages', { ...to, ...rest });
    }
  };

  #request(method: string, path: string, body?: object, more?: RequestInit): Promise<Response> {
    const headers = { authorization: `Bearer ${this.#tokens.token}`, ...(body && { 'content-type': 'application/json' }) };
    return this.#world.fetch(this.#world.http + path, { method, headers, ...(body && { body: JSON.stringify(body) }), ...more });
  }

  /** Makes a call of the protocol, such as `query_capabilities`, and answers its payload. It is made again when the line breaks. */
  async call(type: string, payload: object): Promise<any> {
    if (this.state === 'stopped') throw this.reason;
    let late: ReturnType<typeof setTimeout> | undefined;
    const answer = new Promise<any>((resolve, reject) => {
      late = setTimeout(() => reject(new WaystationError('TIMEOUT', `${type} was not answered`)), CALL_TIMEOUT);
      const call = { payload, resolve, reject };
      if (this.state === 'connected') this.#say(type, payload, { call });
      else this.#pending.set(this.#id(), { type, at: Date.now(), call });
    });
    return answer.finally(() => clearTimeout(late));
  }

  /** Makes a request of the daemons' REST API with the present token. */
  async rest(method: string, path: string, body?: object): Promise<any> {
    await this.#tokens.need();
    const response = await this.#request(method, path, body);
    const said = await response.json();
    if (!response.ok) throw new WaystationError(said.code ?? String(response.status), said.error ?? response.statusText);
    return said;
  }

  /** Says what this daemon does. A paused one gets no messages while another can. */
  report(status: 'active' | 'idle' | 'busy' | 'paused' | 'error', metrics?: Data): void {
    this.#say('heartbeat', { status, ...(metrics && { metrics }) });
    this.#beat = Date.now();
  }

  get statistics(): Statistics {
    return this.#watch.statistics(this.#outbox.size);
  }

  get health(): Health {
    return this.#watch.health(this.state, this.#outbox.size);
  }

  /** Tells of a health that has changed. */
  #show(): void {
    const text = JSON.stringify(this.health);
    if (text !== this.#shown) {
      this.#shown = text;
      this.emit('health', this.health);
    }
  }

  #beaten({ heads, feed, serverTime }: any, pending: Pending | undefined): void {
    this.#clocks(serverTime);
    if (pending) this.#watch.answered(Date.now() - pending.at, Date.now());
    this.#inbox.feedIsAt(feed);
    const [before, reached, epoch] = [this.#heads, this.#reached, this.#epoch];
    if (!heads || !epoch) return;
    this.#heads = heads;
    for (const lane of PRIORITIES) {
      if (heads[lane] < this.#inbox.last(epoch, lane)) throw new Error(`the lane ${lane} ends before what was seen`);
      // What was there at the heartbeat before must have come by now, if there was room for it.
      const room = this.#inbox.inHand < this.options.maxInFlight / 2;
      if (room && before && reached && (reached[lane] ?? 0) < before[lane]!) throw new Error(`messages of the lane ${lane} have not come`);
    }
  }

  #tick(): void {
    const now = Date.now();
    // A clock that was set back proves nothing.
    if (now < this.#heard) this.#heard = this.#beat = this.#extended = this.#checked = this.#since = now;
    if (this.state === 'connected') this.#look(now);
    this.#watch.late(this.#outbox.late(now - this.options.messageTimeoutMs), now);
    if (now - this.#checked >= this.options.healthCheckMs) {
      this.#checked = now;
      if (this.state === 'connected') this.#adopt();
      for (const alert of this.#watch.alerts(now, this.#outbox.size)) this.emit('alert', alert);
    }
    this.#show();
  }

  #look(now: number): void {
    const { healthCheckMs, silenceMs, messageTimeoutMs, processingLimitMs, upgradeMs } = this.options;
    const silent = now - this.#heard;
    if (silent >= silenceMs) return this.#lost(1006, `nothing came for ${silent} ms`, { retry: 0 });
    // A gateway that answers everything but messages is left, and they are sent again.
    const sent = this.#outbox.oldestSent();
    if (sent && now - sent >= messageTimeoutMs * 3) return this.#lost(1006, `no answer to a message for ${now - sent} ms`, { retry: 0 });
    if (now - this.#beat >= this.#interval) {
      this.#beat = now;
      this.#say('heartbeat', {});
    }
    // A line that is silent is asked whether it lives; an unanswered question is a failure.
    if (silent < healthCheckMs) this.#probed = 0;
    else if (!this.#probed || now - this.#probed >= healthCheckMs) {
      if (this.#probed) this.#watch.failed(now);
      this.#probed = now;
      this.#say('ack', { eventIds: [], confirm: true }, {});
    }
    if (now - this.#extended >= EXTEND) {
      this.#extended = now;
      const oldest = this.#inbox.oldest();
      if (oldest && now - oldest.since < processingLimitMs) this.#say('extend', { eventId: oldest.id });
    }
    if (now >= this.#renewAt) void this.#renew();
    if (this.#way && now >= this.#upgradeAt && !this.#better) {
      this.#upgradeAt = now + upgradeMs;
      void this.#start(this.#names[0]!).then((better) => (this.#better = better));
    }
  }
}

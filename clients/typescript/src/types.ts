/** How urgent a message is; each has an order of its own. */
export type Priority = 'critical' | 'high' | 'normal' | 'low';

/** Most urgent first. */
export const PRIORITIES: readonly Priority[] = ['critical', 'high', 'normal', 'low'];

/** A JSON object. */
export type Data = Record<string, unknown>;

/** Whom a message is for. */
export type Target = { orchestratorId: string } | { channelId: string };

/** Why a token is wanted: there is none, the present one ends soon, or it was refused or has ended (the same again would not do). */
export type Occasion = 'first' | 'renewal' | 'refused';

/** An access token, and when it ends; without that its claim `exp` is read. */
export interface Token {
  accessToken: string;
  expiresAt?: Date;
}

/** How messages travel, best first. */
export type TransportName = 'websocket' | 'sse' | 'poll';

/** `disconnected`: none is open, one may be awaited. `stopped`: there will be none until somebody changes something. */
export type State = 'disconnected' | 'connecting' | 'connected' | 'stopped';

/** How the connection is, in a word. */
export type HealthStatus = 'healthy' | 'degraded' | 'unhealthy' | 'disconnected';

export interface Health {
  status: HealthStatus;
  /** Milliseconds; the last one measured. */
  latency: number | null;
  /** Failures since something last succeeded. */
  consecutiveFailures: number;
  /** Messages that wait to be accepted. */
  queueSize: number;
}

export interface Statistics {
  /** Accepted by the gateway. */
  messagesSent: number;
  /** Messages and events that came, repeats included. */
  messagesReceived: number;
  /** Waiting to be accepted. */
  queued: number;
  /** Repeats that were not handed out. */
  duplicatesFiltered: number;
  /** Connections after the first. */
  reconnectCount: number;
  /** Milliseconds; mean over about the last ten. */
  averageLatency: number | null;
  /** Messages and probes that failed. */
  failures: number;
}

/** Where a message or event stands in its log. */
export interface Position {
  log: 'mailbox' | 'feed';
  epoch: string;
  sequence: number;
  /** Of the mailbox. */
  lane?: Priority;
}

/** An event of the organization's feed. */
export interface FeedEvent {
  id: string;
  type: string;
  data: Data;
  channelId?: string;
  senderOrchestratorId?: string;
  position: Position;
}

/** A message of the mailbox. It stays there until it is settled. */
export interface Message extends FeedEvent {
  /** From 1. */
  attempt: number;
  /** It may have been delivered before. */
  redelivered: boolean;
  /** An earlier process got it and ended before it was settled; only known with `durable`. */
  inDoubt: boolean;
  /** It was applied: it is not handed out again. */
  ack(): void;
  /** Not now: it comes again after so many milliseconds. */
  nack(delayMs?: number, reason?: string): void;
  /** Never: it becomes a dead letter. */
  reject(reason: string): void;
  /** It is still worked on. */
  extend(): void;
}

/** What left a log otherwise than by an ack. */
export interface Gap {
  log: 'mailbox' | 'feed';
  /** expired, dead, overflowed, purged, trimmed or possibly_lost. */
  reason: string;
  count: number;
  eventId?: string;
  epoch?: string;
  lane?: Priority;
  from?: number;
  to?: number;
}

/** What became of `send`: accepted, or kept for later. */
export interface SendResult {
  status: 'sent' | 'queued';
  messageId: string;
}

/** A frame of the daemon protocol. */
export interface Frame {
  type: string;
  id?: string;
  replyTo?: string;
  payload?: any;
}

/** What can be set of a message; a word alone is its priority. */
export interface SendOptions {
  priority?: Priority;
  /** Default: the client's. */
  to?: Target;
  /** Makes a repeat harmless. Default: minted. */
  messageId?: string;
  /** Milliseconds that it may wait for its addressee. */
  ttlMs?: number;
}

/** The part of the Web Storage interface that is used: localStorage fits as it is. */
export interface KeyValueStore {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
  key(index: number): string | null;
  readonly length: number;
}

/** What happens when so many wait already: the newcomer is refused, or the oldest of the least urgent makes room. */
export type Overflow = 'refuse' | 'displace-oldest';

/** Why the client does what it does; `code` is for programs. */
export class WaystationError extends Error {
  override name = 'WaystationError';
  constructor(
    readonly code: string,
    message: string,
    /** Of the message or option that is wrong. */
    readonly field?: string,
  ) {
    super(message);
  }
}

/** What the client tells, by name. */
export interface Events {
  state: State;
  connected: { sessionId: string; resumed: boolean; transport: TransportName };
  /** The connection has ended; it is tried again after so many milliseconds. */
  disconnected: { code: number; reason: string; after: number; failures: number };
  stopped: WaystationError;
  message: Message;
  event: FeedEvent;
  gap: Gap;
  /** The store may have lost what this client has seen. */
  possiblyLost: undefined;
  breaker: 'open' | 'half-open' | 'closed';
  /** The gateway leaves: the client moves. */
  lameDuck: { reason: string; after: number };
  tokenRenewed: undefined;
  /** Milliseconds by which the gateway's clock is ahead. */
  clockSkew: number;
  transport: TransportName;
  health: Health;
  alert: { name: string; value: number; threshold: number; raised: boolean };
  /** The gateway has accepted a message. */
  accepted: { messageId: string };
  /** A message that waited is refused for good, or was displaced. */
  undelivered: { messageId: string; error: WaystationError };
  /** Something is wrong that the client lives with: a full storage, a handler that throws, a token that is late. */
  error: WaystationError;
}

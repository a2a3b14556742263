import type { Thresholds } from './alerts.js';
import type { RetryPolicy } from './retry.js';
import { type KeyValueStore, type Occasion, type Overflow, type Target, type Token, type TransportName, WaystationError } from './types.js';

/** Options of a client; what has a default says so. */
export interface Options {
  /** As `wss://gateway.example.com`. */
  url: string;
  /** Whom the daemon serves. */
  orchestratorId: string;
  /** The process, or the page. */
  daemonId: string;
  /** Gives an access token, or throws: a WaystationError with the code CREDENTIALS_REFUSED ends the client. */
  getToken: (occasion: Occasion) => Promise<string | Token> | string | Token;
  /** Whom messages are for unless they say otherwise. */
  to?: Target;
  /** Default: all, best first. */
  transports?: TransportName[];
  /** Default: 1 s doubling to 60 s, ten attempts, then one a minute. */
  retry?: Partial<RetryPolicy>;
  /** Milliseconds until a connection counts as failed. Default: 10,000. */
  connectTimeoutMs?: number;
  /** Milliseconds until a message that is not accepted counts as queued. Default: 10,000. */
  messageTimeoutMs?: number;
  /** Milliseconds between looks at the connection. Default: 5,000. */
  healthCheckMs?: number;
  /** Milliseconds of silence after which the line counts as dead. Default: 15,000. */
  silenceMs?: number;
  /** Milliseconds until a client that fell back tries the better way again. Default: 60,000. */
  upgradeMs?: number;
  /** Messages that wait. Default: 100. */
  queueLimit?: number;
  /** Default: refuse. */
  overflow?: Overflow;
  /** Keeps messages that wait. Default: localStorage where there is one. */
  store?: KeyValueStore;
  /** Keeps there too which messages were applied, so that each is applied once over pages and processes. Default: false. */
  durable?: boolean;
  /** Messages taken unsettled, 1 to 1,000. Default: 256. */
  maxInFlight?: number;
  /** Handlers of messages that run at a time; with 1 they run in order. Default: 1. */
  concurrency?: number;
  /** Milliseconds that a handler may take. Default: 600,000. */
  processingLimitMs?: number;
  /** Above which values an alert is raised. */
  thresholds?: Thresholds;
  /** Default: the global one, which Node has from version 22. */
  WebSocket?: unknown;
  /** Default: the global one. */
  fetch?: typeof fetch;
  /** From 0 up to 1. Default: Math.random. */
  random?: () => number;
}

const defaults = {
  transports: ['websocket', 'sse', 'poll'] as TransportName[],
  connectTimeoutMs: 10_000,
  messageTimeoutMs: 10_000,
  healthCheckMs: 5000,
  silenceMs: 15_000,
  upgradeMs: 60_000,
  queueLimit: 100,
  overflow: 'refuse' as const,
  maxInFlight: 256,
  concurrency: 1,
  processingLimitMs: 600_000,
  random: Math.random,
};

/** Options with their defaults. */
export type Settings = Options & Required<Pick<Options, keyof typeof defaults>>;

/** Adds the defaults. Throws an error that names the option which cannot be. */
export function complete(options: Options): Settings {
  for (const name of ['orchestratorId', 'daemonId'] as const) {
    if (!/^[\w.-]{1,64}$/.test(options[name] ?? '')) throw new WaystationError('OPTION', 'must be 1 to 64 of A-Za-z0-9._-', name);
  }
  const set = Object.entries(options).filter(([, value]) => value !== undefined);
  return { ...defaults, ...Object.fromEntries(set) } as Settings;
}

/** Where the WebSocket is. */
export function socketUrl(text: string): URL {
  const url = new URL(text.replace(/^http/, 'ws'));
  if (!/^wss?:$/.test(url.protocol)) throw new WaystationError('OPTION', 'must begin with ws:// or wss://', 'url');
  if (url.pathname === '/') url.pathname = '/daemon/ws';
  return url;
}

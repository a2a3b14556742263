import type { Frame, TransportName } from './types.js';

/** What a transport tells. */
export interface Listener {
  frame(frame: Frame): void;
  /** Anything at all came. */
  life(): void;
  /** What came is no frame of the protocol. */
  garbage(problem: string): void;
  /** It is over. 1006: without a word. */
  closed(code: number, reason: string): void;
}

/** One connection. */
export interface Transport {
  readonly name: TransportName;
  /** Throws if the frame cannot be sent. */
  send(frame: Frame): void;
  close(code?: number): void;
}

/** What a transport needs of the world. */
export interface World {
  /** As `wss://gateway.example.com/daemon/ws`. */
  url: string;
  /** As `https://gateway.example.com`. */
  http: string;
  WebSocket: typeof WebSocket;
  fetch: typeof fetch;
  cursor(): string;
  patterns(): string[];
  /** Of the present token. */
  token(): string;
}

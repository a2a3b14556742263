import type { Listener, Transport, World } from './transport.js';
import type { Frame } from './types.js';

/** A stream brings a comment each 15 s, a poll an answer after 25 s. */
const QUIET = 35_000;

/** Names of close codes, as an answer says them when it ends a session (docs/protocol.md, "Close codes"). */
const CLOSES: Record<string, number> = {
  AUTH_FAILED: 4001,
  AUTH_TIMEOUT: 4002,
  TOKEN_EXPIRED: 4003,
  RATE_LIMITED: 4004,
  INSUFFICIENT_SCOPE: 4005,
  SESSION_TERMINATED: 4006,
  SLOW_CONSUMER: 4008,
  SUPERSEDED: 4009,
  HEARTBEAT_TIMEOUT: 4010,
  DUPLICATE_IDENTITY: 4011,
  RESTARTING: 4012,
  OVERLOADED: 4013,
};
const STATUSES: Record<number, number> = { 401: 4003, 403: 4005, 429: 4004 };

/** The close that a WebSocket would have got. */
async function closeOf(response: Response): Promise<[code: number, reason: string]> {
  const text = (await response.text()).slice(0, 123);
  const name = /"code":"(\w+)"/.exec(text)?.[1] ?? '';
  return [(response.status === 409 ? CLOSES[name] : STATUSES[response.status]) ?? 1006, text];
}

/** An item of REST and SSE as the frame that a WebSocket would bring. */
function frameOf(item: any): Frame {
  if (item.type === 'system.gap') return { type: 'gap', payload: item.payload };
  const { id, type, payload, createdAt: _, ...rest } = item;
  return { type: 'event', id, payload: { eventId: id, eventType: type, data: payload, ...rest } };
}

/** Parts of server-sent events: their type, id and data. */
async function* serverSent(body: ReadableStream<Uint8Array>, life: () => void): AsyncGenerator<[string, string]> {
  let text = '';
  const decoder = new TextDecoder();
  const reader = body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    life();
    text += decoder.decode(value, { stream: true });
    const parts = text.split(/\r?\n\r?\n/);
    text = parts.pop()!;
    for (const part of parts) {
      const fields = (name: string): string[] =>
        part.split(/\r?\n/).flatMap((line) => (line.startsWith(`${name}:`) ? [line.slice(name.length + 1).trimStart()] : []));
      const data = fields('data');
      if (data.length) yield [fields('event')[0] ?? '', data.join('\n')];
    }
  }
}

/** Requests where WebSockets are blocked: server-sent events or long polls for what comes, POST for what goes. */
export function openHttp(world: World, name: 'sse' | 'poll', auth: () => Frame, listener: Listener): Transport {
  const ended = new AbortController();
  let turn = new AbortController();
  /** What the present stream was asked for. */
  let asked = '';
  const end = (code: number, reason: string): void => {
    if (!ended.signal.aborted) {
      ended.abort();
      turn.abort();
      listener.closed(code, reason);
    }
  };
  /** What goes is not given up with the connection: a last ack or goodbye counts. */
  const request = (method: string, path: string, body?: object, signal?: AbortSignal, accept?: string): Promise<Response> =>
    world.fetch(world.http + path, {
      method,
      ...(signal && { signal }),
      headers: {
        authorization: `Bearer ${world.token()}`,
        ...(body && { 'content-type': 'application/json' }),
        ...(accept && { accept }),
      },
      ...(body && { body: JSON.stringify(body) }),
    });
  /** A new connection begins where the last frame ended. */
  const read = async (): Promise<void> => {
    let first = true;
    let cursor = world.cursor();
    while (!ended.signal.aborted) {
      const present = (turn = new AbortController());
      const { signal } = present;
      let quiet: ReturnType<typeof setTimeout> | undefined;
      // What goes has lines of its own: that they live says nothing of this one.
      const heard = (): void => {
        clearTimeout(quiet);
        quiet = setTimeout(() => present.abort(), QUIET);
        listener.life();
      };
      heard();
      const types = world.patterns();
      asked = types.join();
      const query = new URLSearchParams({ ...(cursor !== '~' && { cursor }), ...(asked && { types: asked }) });
      if (name === 'poll') query.set('wait', first ? '0' : '25');
      try {
        const path = `/api/daemon/events?${query}`;
        const response = await request('GET', path, undefined, signal, name === 'sse' ? 'text/event-stream' : undefined);
        if (!response.ok) return end(...(await closeOf(response)));
        if (name === 'sse') {
          for await (const [event, data] of serverSent(response.body!, heard)) {
            const payload = JSON.parse(data);
            if (event === 'close') return end(payload.code ?? 1006, payload.reason ?? '');
            if (event === '' || event === 'gap') listener.frame(frameOf(payload));
            else if (event !== 'auth_success' && event !== 'ready') listener.frame({ type: event, payload });
            else if (first) listener.frame({ type: 'auth_success', payload });
            else if (payload.gap) listener.frame({ type: 'gap', payload: { log: 'mailbox', count: 0, ...payload.gap } });
            first = false;
          }
          if (!signal.aborted) return end(1006, 'the stream ended');
        } else {
          const answer = await response.json();
          heard();
          if (first) listener.frame({ type: 'auth_success', payload: { sessionId: '', heartbeatIntervalMs: 30000 } });
          answer.events.forEach((item: any) => listener.frame(frameOf(item)));
        }
        first = false;
      } catch (error) {
        if (ended.signal.aborted) return;
        if (!signal.aborted) return end(1006, String(error));
      } finally {
        clearTimeout(quiet);
      }
      cursor = world.cursor();
    }
  };

  const answer = (to: Frame, type: string, payload: object): void =>
    listener.frame({ type, payload, ...(to.id !== undefined && { replyTo: to.id }) });

  const send = async (frame: Frame): Promise<void> => {
    const { type, payload } = frame;
    if (type === 'auth') return void read();
    if (type === 'ack') {
      await request('DELETE', '/api/daemon/events', { eventIds: payload.eventIds });
      return payload.confirm && answer(frame, 'ack_result', { results: [] });
    }
    if (type === 'heartbeat') {
      const response = await request('POST', '/api/daemon/heartbeat', payload);
      return answer(frame, response.ok ? 'heartbeat_ack' : 'error', await response.json());
    }
    if (type === 'send') {
      const { to, ttlMs: _, ...rest } = payload;
      const response = await request('POST', '/api/daemon/messages', { ...to, ...rest });
      const said = await response.json();
      if (response.ok) return answer(frame, 'send_ack', said);
      const passes = response.status === 429 || response.status >= 500;
      return answer(frame, 'error', { code: passes ? 'RATE_LIMITED' : 'INVALID_MESSAGE', message: said.error, details: { error: said.code } });
    }
    if (type === 'subscribe' || type === 'unsubscribe') {
      answer(frame, 'subscribed', {});
      // The stream is opened anew with what is wanted now.
      return world.patterns().join() === asked ? undefined : turn.abort();
    }
    if (type === 'goodbye') return void (await request('DELETE', '/api/daemon/sessions'));
    // Tokens are shown with each request; what is left alone comes again by itself.
    if (!['auth_refresh', 'nack', 'extend'].includes(type)) {
      answer(frame, 'error', { code: 'INVALID_MESSAGE', message: `${type} needs a WebSocket` });
    } else if (type === 'auth_refresh') answer(frame, 'auth_refreshed', {});
  };

  const transport: Transport = {
    name,
    send: (frame) => {
      send(frame).then(listener.life, (error) => end(1006, String(error)));
    },
    close: (code = 1006) => end(code, 'given up'),
  };
  queueMicrotask(() => transport.send(auth()));
  return transport;
}

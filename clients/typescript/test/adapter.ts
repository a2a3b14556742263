/**
 * Lets the conformance kit drive this client: orders on stdin, observations on stdout, one JSON object a line
 * (docs/clients.md, "Conformance").
 */
import { createInterface } from 'node:readline';

import { type Options, type Priority, Waystation, type WaystationError } from '../src/index.js';
import { FileStore } from '../src/node/index.js';

const saw = (what: string, more: object = {}): void => void process.stdout.write(`${JSON.stringify({ saw: what, ...more })}\n`);

const options = Object.fromEntries(process.argv.slice(2).map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]));
const millis = (name: string): number | undefined => (options[name] === undefined ? undefined : Number(options[name]));

const tokens: string[] = [];
let give: ((token: string) => void) | undefined;

const { WebSocket } = globalThis.WebSocket ? globalThis : { WebSocket: (await import('ws' as string)).default };
const settings: Options = {
  url: options.url!,
  orchestratorId: options.orchestrator!,
  daemonId: options.daemon!,
  WebSocket,
  ...(options.transports && { transports: options.transports.split(',') as NonNullable<Options['transports']> }),
  retry: {
    firstMs: millis('backoff') ?? 1000,
    mostMs: millis('backoff_most') ?? 60_000,
    attempts: millis('attempts') ?? 10,
    restMs: millis('rest') ?? 60_000,
  },
  healthCheckMs: millis('ping') ?? 5000,
  silenceMs: (millis('ping') ?? 5000) + (millis('patience') ?? 10_000),
  connectTimeoutMs: millis('timeout') ?? 10_000,
  messageTimeoutMs: millis('message_timeout') ?? 10_000,
  upgradeMs: millis('upgrade') ?? 60_000,
  queueLimit: 10_000,
  ...(options.state_file && { store: new FileStore(options.state_file), durable: true }),
  getToken: async (occasion) => {
    saw('token_wanted', { occasion });
    const token = tokens.shift() ?? (await new Promise<string>((resolve) => (give = resolve)));
    if (!token) throw new Error('there is none now');
    return token;
  },
};
const client = new Waystation(settings);
client.on('connected', ({ sessionId, resumed, transport }) => saw('connected', { session: sessionId, resumed, transport }));
client.on('disconnected', ({ code, reason, after, failures }) => saw('disconnected', { reason: `${code} ${reason}`, afterMs: Math.round(after), failures }));
client.on('breaker', (state) => saw('breaker', { state: state.replace('-', '') }));
client.on('gap', ({ reason, count }) => saw('gap', { reason, count }));
client.on('possiblyLost', () => saw('possibly_lost'));
client.on('tokenRenewed', () => saw('token_renewed'));
client.on('clockSkew', () => saw('clock_skew'));
client.on('error', (error) => saw('other', { what: `${error.code} ${error.message}` }));
client.on('stopped', (error) => saw(error.code === 'CLOSED' ? 'ended' : 'stopped', { reason: error.message }));
client.on('undelivered', ({ messageId, error }) => saw('refused', { id: messageId, reason: error.message }));
client.on('accepted', ({ messageId }) => saw('accepted', { id: messageId }));
if (options.subscribe) {
  client.subscribe(options.subscribe.split(','), ({ id, type, data }) => saw('event', { id, type, data }));
}
client.on('message', ({ id, data, inDoubt }) => saw('message', { id, data, inDoubt }));
if (!('hold' in options)) client.onMessage(() => {});
client.connect();

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line) as Record<string, any>;
  if (order.do === 'token') {
    if (give) give(order.token);
    else tokens.push(order.token);
    give = undefined;
  } else if (order.do === 'send') {
    const messageId = (order.id as string | undefined) ?? crypto.randomUUID();
    const priority = (order.priority as Priority | undefined) ?? 'normal';
    const sending = client.send('message.received', order.data, { to: { orchestratorId: order.to }, messageId, priority });
    sending.catch((error: WaystationError) => saw('refused', { id: messageId, reason: error.message }));
  } else if (order.do === 'stop') {
    await client.drain();
    break;
  }
}
process.exit(0);

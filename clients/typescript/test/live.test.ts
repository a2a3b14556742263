/** The client over a real gateway: WAYSTATION_DEV names the dev.json of a standalone (`make run` writes .waystation/dev.json). */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, test } from 'node:test';

import { type FeedEvent, type Message, type Options, Waystation, type WaystationError } from '../src/index.js';
import { apiKeyTokens } from '../src/node/index.js';
import { Pool } from '../src/pool.js';
import { delegate, work } from '../src/tasks.js';

const file = process.env.WAYSTATION_DEV ?? assert.fail('WAYSTATION_DEV must name the dev.json of a running standalone');
const dev = JSON.parse(readFileSync(file, 'utf8'));
const { WebSocket } = globalThis.WebSocket ? globalThis : { WebSocket: (await import('ws' as string)).default };

const open: Waystation[] = [];
after(() => open.forEach((client) => client.close()));

let count = 0;
/** Each test has orchestrators of its own. */
const unique = (name: string): string => `${name}-${process.pid}-${(count += 1)}`;

function client(orchestratorId: string, more: Partial<Options> = {}): Waystation {
  const { api_key: apiKey, api_secret: apiSecret, http_url: url } = dev;
  const daemonId = more.daemonId ?? 'd1';
  const getToken = apiKeyTokens({ url, apiKey, apiSecret, orchestratorId, daemonId });
  const made = new Waystation({ url: dev.gateway_url, orchestratorId, daemonId, getToken, WebSocket, ...more });
  open.push(made);
  return made.connect();
}

async function eventually(what: string, holds: () => boolean): Promise<void> {
  for (const end = Date.now() + 20_000; !holds(); ) {
    assert.ok(Date.now() < end, `not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

for (const transports of [['websocket'], ['sse'], ['poll']] as NonNullable<Options['transports']>[]) {
  test(`messages and events come and go by ${transports}`, async () => {
    const [me, other] = [unique('orla'), unique('otto')];
    const [orla, otto] = [client(me, { transports }), client(other)];
    const [messages, events]: [Message[], FeedEvent[]] = [[], []];
    const channel = unique('c');
    orla.onMessage((message) => void messages.push(message));
    orla.subscribe('message.*', (event) => void events.push(event), [channel]);
    await Promise.all([orla.connected(), otto.connected()]);
    // A subscription by request is in force once the stream is open anew.
    await eventually('events come', () => {
      void otto.send('message.updated', { n: 0 }, { to: { channelId: channel } });
      return events.length > 0;
    });
    for (let n = 0; n < 5; n += 1) await otto.send('invoice.paid', { n }, { to: { orchestratorId: me } });
    await eventually('messages come', () => messages.length === 5);
    assert.deepEqual(messages.map(({ type, data }) => [type, data.n]), [0, 1, 2, 3, 4].map((n) => ['invoice.paid', n]));
    assert.equal(messages[0]!.senderOrchestratorId, other);
    const received: Message[] = [];
    otto.onMessage((message) => void received.push(message));
    const sent = await orla.send('invoice.seen', { ok: true }, { to: { orchestratorId: other }, priority: 'high' });
    assert.equal(sent.status, 'sent');
    await eventually('it arrives', () => received.length === 1);
    assert.deepEqual([received[0]!.data, received[0]!.position.lane], [{ ok: true }, 'high']);
    const refused = orla.send('invoice.seen', { ok: false }, { to: { orchestratorId: other }, messageId: sent.messageId });
    await assert.rejects(refused, { code: 'MESSAGE_ID_REUSED' });
    await eventually('acks are in', () => true);
    await orla.drain();
    // Acknowledged is acknowledged, whichever way.
    const again = client(me);
    await again.connected();
    const more: Message[] = [];
    again.on('message', (message) => void more.push(message));
    await otto.send('last.one', {}, { to: { orchestratorId: me } });
    await eventually('the last one comes', () => more.some(({ type }) => type === 'last.one'));
    assert.equal(more.length, 1);
  });
}

test('a client falls back where WebSockets are blocked, and comes back up when they pass', async () => {
  let blocked = true;
  class Sometimes {
    constructor(url: string) {
      if (blocked) throw new Error('blocked');
      return new (WebSocket as new (url: string) => object)(url);
    }
  }
  const me = unique('orla');
  const orla = client(me, { WebSocket: Sometimes, upgradeMs: 300, retry: { firstMs: 20, mostMs: 20, attempts: 100 } });
  const transports: string[] = [];
  const messages: unknown[] = [];
  orla.on('transport', (name) => transports.push(name));
  orla.onMessage(({ data }) => void messages.push(data.n));
  await orla.connected();
  assert.deepEqual(transports, ['sse']);
  const otto = client(unique('otto'), { to: { orchestratorId: me } });
  await otto.connected();
  await otto.send('a.b', { n: 1 });
  await eventually('it comes by the other way', () => messages.length === 1);
  blocked = false;
  await eventually('it is up again', () => transports.at(-1) === 'websocket');
  await otto.send('a.b', { n: 2 });
  await eventually('it comes', () => messages.length === 2);
  assert.deepEqual([messages, transports, orla.state], [[1, 2], ['sse', 'websocket'], 'connected']);
});

test('handlers run in order, and what they throw is given back', async () => {
  const me = unique('orla');
  const orla = client(me);
  const seen: string[] = [];
  const errors: WaystationError[] = [];
  orla.on('error', (error) => void errors.push(error));
  orla.onMessage(async ({ data, attempt }) => {
    await new Promise((resolve) => setTimeout(resolve, 10 - Number(data.n)));
    seen.push(`${data.n}/${attempt}`);
    if (data.n === 1 && attempt === 1) throw new Error('not now');
  });
  const otto = client(unique('otto'), { to: { orchestratorId: me } });
  await otto.connected();
  for (let n = 0; n < 3; n += 1) await otto.send('a.b', { n });
  await eventually('all are applied', () => seen.length === 4);
  assert.deepEqual(seen, ['0/1', '1/1', '2/1', '1/2']);
  assert.equal(errors[0]?.code, 'HANDLER');
});

test('what is sent while offline is queued, and goes when the line is back', async () => {
  const [me, other] = [unique('orla'), unique('otto')];
  const otto = client(other);
  const received: unknown[] = [];
  otto.onMessage(({ data }) => void received.push(data.n));
  await otto.connected();
  const { api_key: apiKey, api_secret: apiSecret, http_url: url } = dev;
  const offline = new Waystation({
    url: dev.gateway_url,
    orchestratorId: me,
    daemonId: 'd1',
    WebSocket,
    to: { orchestratorId: other },
    getToken: apiKeyTokens({ url, apiKey, apiSecret, orchestratorId: me }),
  });
  open.push(offline);
  const sent = await Promise.all([offline.send('a.b', { n: 2 }, 'low'), offline.send('a.b', { n: 1 }, 'critical')]);
  assert.deepEqual(sent.map(({ status }) => status), ['queued', 'queued']);
  assert.equal(offline.health.queueSize, 2);
  offline.connect();
  await eventually('both arrive', () => received.length === 2 && offline.statistics.queued === 0);
  assert.deepEqual(received, [1, 2]);
  assert.equal(offline.statistics.messagesSent, 2);
});

test('a task is given away, worked on and answered; another is cancelled', async () => {
  const capability = unique('capability').toLowerCase();
  const [anna, boss] = [client(unique('anna')), client(unique('boss'))];
  await Promise.all([anna.connected(), boss.connected()]);
  const aborted: unknown[] = [];
  const worker = work(anna, { capabilities: [capability], maxConcurrent: 2, judge: ({ task }) => (task.payload.odd ? 'odd' : undefined) }, async (task) => {
    await task.progress(40, 'reading');
    if (!task.task.payload.forever) return { answer: 42 };
    await new Promise((resolve) => task.signal.addEventListener('abort', resolve));
    aborted.push(task.delegationId);
    return null;
  });
  await eventually('it is registered', () => true);
  const first = await delegate(boss, { task: { type: 'sum', payload: {} }, requiredCapabilities: [capability] });
  const types: string[] = [];
  for await (const update of first.updates()) types.push(update.type);
  assert.deepEqual(types, ['accepted', 'progress', 'completed']);
  const second = await delegate(boss, { task: { type: 'sum', payload: { forever: true } }, requiredCapabilities: [capability] });
  for await (const { type } of second.updates()) if (type === 'progress') break;
  await second.cancel('enough');
  await assert.rejects(second.result(), { code: 'CANCELLED' });
  await eventually('the handler is told', () => aborted.length === 1);
  const third = await delegate(boss, { task: { type: 'sum', payload: { odd: true } }, requiredCapabilities: [capability] });
  for await (const { type, data } of third.updates()) {
    assert.deepEqual([type, data.reason], ['rejected', 'odd']);
    break;
  }
  await worker.stop();
});

test('a pool shares, reuses and closes clients', async () => {
  const me = unique('orla');
  let made = 0;
  const create = (): Waystation => client(me, { daemonId: `d${(made += 1)}` });
  const pool = new Pool({ create, strategy: 'round-robin', most: 2, idleMs: 200 });
  const first = await pool.take('blue');
  const second = await pool.take('blue');
  assert.notEqual(first.client, second.client);
  const third = await pool.take('blue');
  assert.equal(third.client, first.client, 'in turn');
  await assert.rejects(pool.take('red'), { code: 'POOL_FULL' });
  first.release();
  third.release();
  const fourth = await pool.take('blue');
  assert.deepEqual([fourth.client, made], [first.client, 2], 'one that nobody uses is used again');
  fourth.release();
  await eventually('the idle one is closed', () => pool.size === 1);
  assert.equal(second.client.state, 'connected');
  pool.close();
  assert.equal(pool.size, 0);
});

test('wrong options and credentials are told', async () => {
  const right = { url: 'ws://h', orchestratorId: 'o', daemonId: 'd', getToken: () => 't', WebSocket };
  for (const [wrong, field] of [[{ url: 'ftp://h' }, 'url'], [{ orchestratorId: 'a/b' }, 'orchestratorId'], [{ daemonId: '' }, 'daemonId']] as const) {
    assert.throws(() => new Waystation({ ...right, ...wrong }), { code: 'OPTION', field });
  }
  await assert.rejects(new Waystation(right).send('a.b', {}), { code: 'INVALID_MESSAGE', field: 'to' });
  await assert.rejects(new Waystation({ ...right, to: { channelId: 'c' } }).send('a.b', {}, 'soon' as 'low'), { field: 'priority' });
  const getToken = apiKeyTokens({ url: dev.http_url, apiKey: dev.api_key, apiSecret: 'wsk_guessed', orchestratorId: 'o' });
  const refused = client(unique('orla'), { getToken });
  await assert.rejects(refused.connected(), { code: 'CREDENTIALS_REFUSED' });
});

import assert from 'node:assert/strict';
import { mkdtempSync, writeFileSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { Alerts } from '../src/alerts.js';
import { Waystation } from '../src/client.js';
import { contains, Inbox, insert } from '../src/inbox.js';
import { FileStore } from '../src/node/index.js';
import { MemoryStore, Outbox } from '../src/outbox.js';
import { Retry } from '../src/retry.js';
import { Subscriptions } from '../src/subscriptions.js';
import type { FeedEvent, KeyValueStore, Occasion, Overflow, Priority, SendResult, WaystationError } from '../src/types.js';
import { Watch } from '../src/watch.js';

test('ranges are a set', () => {
  for (let round = 0; round < 200; round += 1) {
    const ranges: [number, number][] = [];
    const set = new Set<number>();
    for (let i = 0; i < 30; i += 1) {
      const from = 1 + Math.floor(Math.random() * 60);
      const to = from + Math.floor(Math.random() * 6);
      insert(ranges, from, to);
      for (let n = from; n <= to; n += 1) set.add(n);
    }
    for (let n = 0; n < 80; n += 1) assert.equal(contains(ranges, n), set.has(n));
    ranges.slice(1).forEach(([from], i) => assert.ok(from > ranges[i]![1] + 1, 'neither overlapping nor adjacent'));
  }
});

test('waits double with full jitter, and a breaker opens, tries and closes', () => {
  const retry = new Retry({ firstMs: 1000, mostMs: 60_000, attempts: 9, restMs: 60_000 });
  assert.deepEqual(Array.from({ length: 8 }, () => retry.failed(0, 1)), [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
  assert.equal(retry.failed(0, 0), 60_000);
  assert.equal(retry.breaker, 'open');
  retry.trying();
  assert.equal(retry.breaker, 'half-open');
  assert.equal(retry.failed(0, 1), 75_000);
  retry.trying();
  retry.connected();
  assert.deepEqual([retry.breaker, retry.failures], ['closed', 0]);
  retry.violated();
  assert.ok(retry.failures > 9, 'a gateway that lets in and sends garbage was not reached');
});

const at = (sequence: number, epoch = 'e1') => ({ log: 'mailbox' as const, epoch, lane: 'normal' as const, sequence });

test('each message is handed out once, over processes too', () => {
  const store = new MemoryStore();
  const inbox = new Inbox(store, 'k');
  assert.equal(inbox.arrive(at(1), 'a', 0), 'new');
  assert.equal(inbox.arrive(at(1), 'a', 0), 'in-hand');
  assert.equal(inbox.arrive(at(1), 'b', 0), 'contradiction');
  inbox.apply(at(1));
  assert.equal(inbox.arrive(at(1), 'a', 0), 'applied');
  assert.equal(inbox.arrive(at(2), 'b', 0), 'new');
  inbox.arrive(at(3), 'c', 0);
  inbox.giveBack(at(3));
  const next = new Inbox(store, 'k');
  assert.equal(next.arrive(at(1), 'a', 0), 'applied');
  assert.equal(next.arrive(at(2), 'b', 0), 'in-doubt');
  assert.equal(next.arrive(at(3), 'c', 0), 'new');
});

test('a client shows where it stopped, in the words of WebSocket and REST', () => {
  const inbox = new Inbox();
  assert.deepEqual([inbox.resume(), inbox.cursor()], [{}, '~']);
  inbox.enter('00000000000000ab');
  inbox.arrive(at(3, '00000000000000ab'), 'a', 0);
  inbox.skip('00000000000000ab', 'high', 1, 4);
  assert.ok(inbox.passes('00000000000000cd', 7));
  assert.ok(!inbox.passes('00000000000000cd', 7));
  assert.equal(inbox.cursor(), '00000000000000ab-0-4-3-0~00000000000000cd-7');
  assert.deepEqual(inbox.resume(), {
    mailbox: { epoch: '00000000000000ab', positions: { high: 4, normal: 3 } },
    feed: { epoch: '00000000000000cd', position: 7 },
  });
});

function outbox(limit = 100, overflow: Overflow = 'refuse', store: KeyValueStore = new MemoryStore(), owner = 'me') {
  const troubles: string[] = [];
  const box = new Outbox(limit, overflow, store, 'q/', owner, (error, id) => troubles.push(`${error.code} ${id ?? ''}`.trim()));
  const settled: Record<string, string> = {};
  let at = 0;
  const push = (id: string, priority: Priority = 'normal') =>
    box.push({ id, type: 't', data: {}, priority, to: { channelId: 'c' }, at: (at += 1) }, (result: SendResult | WaystationError) => {
      settled[id] = 'status' in result ? result.status : result.code;
    });
  const ready = () => [...box.ready(1)].map(({ id }) => id);
  return { box, push, ready, settled, troubles, store };
}

test('the urgent go first, and each priority keeps its order', () => {
  const { box, push, ready, settled } = outbox();
  push('a', 'low');
  push('b');
  push('c', 'critical');
  push('d');
  assert.deepEqual(ready(), ['c', 'b', 'd', 'a']);
  assert.equal(box.accept('b', 3), 2);
  box.allAgain();
  assert.deepEqual(ready(), ['c', 'd', 'a']);
  assert.deepEqual(settled, { a: 'queued', b: 'sent', c: 'queued', d: 'queued' });
  assert.throws(() => push('a'), { code: 'ALREADY_WAITING' });
});

test('a queue has a bound and a policy', () => {
  const refusing = outbox(2);
  refusing.push('a');
  refusing.push('b');
  assert.throws(() => refusing.push('c'), { code: 'QUEUE_FULL' });
  const displacing = outbox(2, 'displace-oldest');
  displacing.push('a', 'high');
  displacing.push('b', 'low');
  displacing.push('c');
  assert.deepEqual(displacing.settled, { b: 'DISPLACED' });
  displacing.push('d');
  assert.deepEqual(displacing.settled, { b: 'DISPLACED', c: 'DISPLACED' });
  assert.throws(() => displacing.push('e', 'low'), { code: 'QUEUE_FULL' });
});

test('what waits is kept, and taken over when its tab is gone', () => {
  const first = outbox();
  first.push('a');
  first.push('b', 'high');
  first.box.allAgain();
  const second = outbox(100, 'refuse', first.store, 'other');
  second.box.adopt((owner) => owner === 'me');
  assert.equal(second.box.size, 0, 'its tab lives');
  second.box.adopt(() => false);
  assert.deepEqual(second.ready(), ['b', 'a']);
  second.box.accept('a', 1);
  second.box.accept('b', 1);
  assert.equal(first.store.length, 0);
});

test('a full or damaged store is told, and nothing in memory is lost', () => {
  const full = new MemoryStore();
  full.setItem = () => {
    throw new Error('QuotaExceededError');
  };
  const { box, push, ready, troubles, settled } = outbox(100, 'refuse', full);
  push('a');
  box.allAgain();
  assert.deepEqual([ready(), troubles, settled], [['a'], ['STORAGE_FULL'], { a: 'queued' }]);
  const damaged = new MemoryStore();
  damaged.setItem('q/x', '{"id":');
  const other = outbox(100, 'refuse', damaged);
  other.box.adopt(() => false);
  assert.deepEqual([other.troubles, damaged.length, other.box.size], [['STORAGE_CORRUPT'], 0, 0]);
});

test('an unsubscribed name that a wider pattern covers stays', () => {
  const all = new Subscriptions();
  const seen: string[] = [];
  const add = (name: string, patterns: string[], channelIds: string[] = []) => {
    const subscription = { patterns, channelIds, handler: (event: FeedEvent) => seen.push(`${name}:${event.id}`) };
    all.add(subscription);
    return subscription;
  };
  const wide = add('wide', ['a.*']);
  const narrow = add('narrow', ['a.b', 'c'], ['c1']);
  const other = add('other', ['c'], ['c2']);
  assert.deepEqual(all.wanted(), [['a.*', []], ['a.b', ['c1']], ['c', ['c1', 'c2']]]);
  const event = (id: string, type: string, channelId?: string) => all.dispatch({ id, type, data: {}, position: at(1), ...(channelId && { channelId }) }, () => assert.fail());
  event('1', 'a.b', 'c2');
  event('2', 'c', 'c2');
  event('3', 'ab');
  assert.deepEqual(seen, ['wide:1', 'other:2']);
  assert.deepEqual(all.remove(narrow), []);
  assert.deepEqual(all.remove(wide), ['a.*']);
  assert.deepEqual(all.remove(other), ['c']);
});

test('alerts are raised once and lowered once', () => {
  const alerts = new Alerts({ latency: 100, errorRate: 0.5 });
  const check = (now: number, latency: number, consecutiveFailures = 0, queueSize = 0) =>
    alerts.check(now, { latency, consecutiveFailures, queueSize }).map(({ name, raised }) => `${name} ${raised}`);
  assert.deepEqual(check(1, 100), []);
  assert.deepEqual(check(2, 101, 3, 51), ['latency true', 'consecutiveFailures true', 'queueSize true']);
  assert.deepEqual(check(3, 101, 4, 60), []);
  assert.deepEqual(check(4, 1), ['latency false', 'consecutiveFailures false', 'queueSize false']);
  for (let i = 0; i < 20; i += 1) alerts.outcome(5, i % 3 > 0);
  assert.deepEqual(check(6, 1), ['errorRate true']);
  assert.deepEqual(check(70_000, 1), ['errorRate false']);
});

test('health says what was seen', () => {
  const watch = new Watch();
  const status = (queue = 0) => watch.health('connected', queue).status;
  assert.equal(watch.health('disconnected', 0).status, 'disconnected');
  assert.deepEqual([status(50), status(51)], ['healthy', 'degraded']);
  watch.late(true, 1);
  watch.late(true, 2);
  assert.deepEqual([status(), watch.counts.failures], ['degraded', 1]);
  watch.failed(3);
  watch.failed(4);
  assert.equal(status(), 'unhealthy');
  watch.answered(1001, 5);
  assert.equal(status(), 'degraded');
  watch.answered(5, 6);
  assert.equal(status(), 'healthy');
});

test('a file store is a store', () => {
  const directory = mkdtempSync(join(tmpdir(), 'waystation-'));
  const store = new FileStore(join(directory, 'deeper'));
  store.setItem('a/b', '1');
  store.setItem('a/b', '2');
  assert.deepEqual([store.getItem('a/b'), store.getItem('c'), store.length, store.key(0), store.key(1)], ['2', null, 1, 'a/b', null]);
  writeFileSync(join(directory, 'deeper', 'torn.json.new'), 'x');
  assert.equal(store.length, 1, 'what is half written is not seen');
  store.removeItem('a/b');
  store.removeItem('a/b');
  assert.equal(readdirSync(join(directory, 'deeper')).length, 1);
});

test('what must go when a page closes goes with a header, and stays kept until it is heard', async () => {
  const listeners: Record<string, () => void> = {};
  const page = globalThis as { addEventListener?: unknown; removeEventListener?: unknown };
  page.addEventListener = (name: string, listener: () => void) => void (listeners[name] = listener);
  page.removeEventListener = (name: string) => void delete listeners[name];
  const asked: { url: string; init: RequestInit }[] = [];
  const store = new MemoryStore();
  class Blocked {
    close(): void {}
    send(): void {}
  }
  const client = new Waystation({
    url: 'ws://gateway',
    orchestratorId: 'o',
    daemonId: 'd',
    getToken: () => 't',
    WebSocket: Blocked,
    fetch: (async (url: string, init: RequestInit) => (asked.push({ url, init }), new Response('{}'))) as typeof fetch,
    store,
    to: { channelId: 'c' },
  });
  client.connect();
  assert.equal((await client.send('a.b', { n: 1 }, { messageId: 'm-1' })).status, 'queued');
  listeners.pagehide!();
  assert.equal(asked.length, 1);
  const { url, init } = asked[0]!;
  assert.deepEqual([url, init.method, init.keepalive], ['http://gateway/api/daemon/messages', 'POST', true]);
  assert.equal((init.headers as Record<string, string>).authorization, 'Bearer t');
  assert.deepEqual(JSON.parse(init.body as string), { channelId: 'c', eventType: 'a.b', data: { n: 1 }, priority: 'normal', messageId: 'm-1' });
  assert.equal(store.length, 1, 'the next page sends it under the same id');
  client.close();
  assert.equal(listeners.pagehide, undefined);
  delete page.addEventListener;
  delete page.removeEventListener;
});

test('a session that ends on the way without a socket ends as a socket would', async () => {
  for (const [code, occasions, stops] of [
    ['TOKEN_EXPIRED', ['first', 'refused'], false],
    ['SUPERSEDED', ['first'], true],
  ] as const) {
    const asked: Occasion[] = [];
    let answers = 0;
    const client = new Waystation({
      url: 'ws://gateway',
      orchestratorId: 'o',
      daemonId: 'd',
      getToken: (occasion) => (asked.push(occasion), 't'),
      transports: ['poll'],
      fetch: (async (_: string, init?: RequestInit) => {
        if (init?.method !== 'GET') return new Response('{}');
        answers += 1;
        if (answers === 2) return new Response(JSON.stringify({ code, error: `the session has ended: ${code}` }), { status: 409 });
        if (answers > 3) await new Promise((resolve) => init.signal?.addEventListener('abort', resolve));
        return new Response('{"events":[]}');
      }) as typeof fetch,
      store: new MemoryStore(),
      random: () => 0,
    });
    const ended = new Promise<string>((resolve) => {
      client.on('stopped', ({ message }) => resolve(message));
      client.on('connected', () => answers > 2 && resolve('again'));
    });
    client.connect();
    const how = await ended;
    assert.equal(how.includes(code), stops, how);
    assert.deepEqual(asked, occasions);
    client.close();
  }
});

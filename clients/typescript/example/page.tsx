/** A page that shows its connection: all parts of `@waystation/client/react` at once. */
import { type FormEvent, type ReactElement, useState } from 'react';
import { createRoot } from 'react-dom/client';

import { type Options, Waystation } from '../src/index.js';
import { ConnectionHealthMonitor, ConnectionStatusIndicator, useWaystation } from '../src/react/index.js';

const query = new URLSearchParams(location.search);
const settings: { url: string; orchestratorId: string; daemonId: string } = await (await fetch('/config')).json();
const number = (name: string): number | undefined => (query.has(name) ? Number(query.get(name)) : undefined);
const options: Options = {
  ...settings,
  // Each tab is a daemon of its own; the same one would take the other's place.
  daemonId: `${settings.daemonId}-${crypto.randomUUID().slice(0, 8)}`,
  // The page's own server logs in: a secret does not belong into a page.
  getToken: async () => (await fetch('/token')).text(),
  to: { orchestratorId: settings.orchestratorId },
};
for (const name of ['healthCheckMs', 'silenceMs'] as const) {
  const value = number(name);
  if (value !== undefined) options[name] = value;
}
if (query.has('firstMs')) options.retry = { firstMs: number('firstMs')!, mostMs: number('firstMs')!, attempts: 1000 };
const client = new Waystation(options);
client.onMessage(() => {});

function Page(): ReactElement {
  const { connected, events, send, sessions, daemonStatus, subscriptions, subscribe, unsubscribe } = useWaystation(client, { subscriptions: ['presence.*'] });
  const [text, setText] = useState('');
  const [said, setSaid] = useState('');
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    setText('');
    send('message.received', { content: text }).then(({ status }) => setSaid(status), (error) => setSaid(error.message));
  };
  const watched = subscriptions.includes('orchestrator.*');
  return (
    <main style={{ font: '14px/1.5 system-ui, sans-serif', margin: 24, display: 'grid', gap: 16, maxWidth: 480 }}>
      <header style={{ display: 'flex', justifyContent: 'space-between' }}>
        <h1 style={{ margin: 0, fontSize: 20 }}>{settings.orchestratorId}</h1>
        <ConnectionStatusIndicator client={client} />
      </header>
      <ConnectionHealthMonitor client={client} />
      <p data-testid="facts">
        {connected ? 'connected' : 'not connected'}, {sessions.length} sessions, daemon {daemonStatus ?? 'unknown'}
      </p>
      <form onSubmit={submit}>
        <label>
          A message to myself <input value={text} onChange={(event) => setText(event.target.value)} />
        </label>{' '}
        <button type="submit">Send</button> <output>{said}</output>
      </form>
      <label>
        <input type="checkbox" checked={watched} onChange={() => (watched ? unsubscribe : subscribe)('orchestrator.*')} /> Watch the registry
      </label>
      <ol aria-label="Events">
        {events.map((event) => (
          <li key={event.position.log + event.id}>
            {event.type} {JSON.stringify(event.data)}
          </li>
        ))}
      </ol>
    </main>
  );
}

createRoot(document.getElementById('root')!).render(<Page />);

import { type CSSProperties, type ReactElement, useId } from 'react';

import type { Waystation } from '../client.js';
import { Chart } from './Chart.js';
import { useHealth } from './useHealth.js';
import { colourOf, milliseconds, WORDS } from './words.js';

export interface ConnectionHealthMonitorProps {
  client: Waystation;
  /** Default: Connection. */
  title?: string;
  className?: string;
}

const BOX: CSSProperties = { border: '1px solid #d4d4d8', borderRadius: 8, padding: 16, maxWidth: 420, background: '#fff', color: '#18181b', font: '14px/1.5 system-ui, sans-serif' };
const GRID: CSSProperties = { display: 'grid', gridTemplateColumns: '1fr auto', gap: '2px 16px', margin: '12px 0' };

/** All about a connection: its state, latency, counters, a chart of the last minute, and a button to connect anew. */
export function ConnectionHealthMonitor({ client, title = 'Connection', className }: ConnectionHealthMonitorProps): ReactElement {
  const { health, stats, state, history } = useHealth(client);
  const heading = useId();
  const { word, colour } = WORDS[health.status];
  const rows: [string, string | number, (string | undefined)?][] = [
    ['Latency', milliseconds(health.latency), health.latency === null ? undefined : colourOf(health.latency)],
    ['Mean latency', milliseconds(stats.averageLatency)],
    ['Failures in a row', health.consecutiveFailures],
    ['Messages sent', stats.messagesSent],
    ['Messages received', stats.messagesReceived],
    ['Waiting to be sent', stats.queued],
    ['Repeats left out', stats.duplicatesFiltered],
    ['Reconnects', stats.reconnectCount],
  ];
  return (
    <section aria-labelledby={heading} className={className} style={BOX} data-status={health.status}>
      <header style={{ display: 'flex', justifyContent: 'space-between', alignItems: 'center' }}>
        <h2 id={heading} style={{ fontSize: 16, margin: 0 }}>
          {title}
        </h2>
        <strong role="status" aria-live="polite" style={{ color: colour }}>
          {state === 'connecting' ? 'Connecting' : state === 'stopped' ? 'Stopped' : word}
        </strong>
      </header>
      {client.reason && <p role="alert">{client.reason.message}</p>}
      <dl style={GRID}>
        {rows.map(([name, value, tint]) => (
          <div key={name} style={{ display: 'contents' }}>
            <dt>{name}</dt>
            <dd style={{ margin: 0, textAlign: 'right', fontVariantNumeric: 'tabular-nums', color: tint }}>{value}</dd>
          </div>
        ))}
      </dl>
      <Chart values={history} />
      <button type="button" onClick={() => client.reconnect()} style={{ marginTop: 12 }}>
        Reconnect
      </button>
    </section>
  );
}

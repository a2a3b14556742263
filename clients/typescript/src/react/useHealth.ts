import { useEffect, useState } from 'react';

import type { Waystation } from '../client.js';
import type { Health, State, Statistics } from '../types.js';

/** How a connection is, and was. */
export interface HealthView {
  state: State;
  health: Health;
  stats: Statistics;
  /** Latencies of the last looks in milliseconds, oldest first; null: none was measured, or there was no connection. */
  history: (number | null)[];
}

/** Looks a minute back. */
const LOOKS = 60;

const look = (client: Waystation, history: (number | null)[]): HealthView => ({
  state: client.state,
  health: client.health,
  stats: client.statistics,
  history,
});

/** Follows a client: at each change of its health, and every `everyMs` milliseconds. */
export function useHealth(client: Waystation, everyMs = 1000): HealthView {
  const [view, setView] = useState(() => look(client, []));
  useEffect(() => {
    const show = (): void => setView((before) => look(client, before.history));
    const note = (): void =>
      setView((before) => {
        const latency = client.state === 'connected' ? client.health.latency : null;
        return look(client, [...before.history, latency].slice(-LOOKS));
      });
    note();
    const timer = setInterval(note, everyMs);
    const offs = [client.on('health', show), client.on('state', show)];
    return () => {
      clearInterval(timer);
      offs.forEach((off) => off());
    };
  }, [client, everyMs]);
  return view;
}

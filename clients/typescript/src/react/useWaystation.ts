import { useCallback, useEffect, useMemo, useState } from 'react';

import type { Waystation } from '../client.js';
import type { Data, FeedEvent, Health, Priority, SendOptions, SendResult, State, Statistics } from '../types.js';
import { useHealth } from './useHealth.js';

/** A connection of the orchestrator, as the gateway lists it. */
export interface Session {
  sessionId: string;
  daemonId?: string;
  [more: string]: unknown;
}

export interface UseWaystationOptions {
  /** Events of the feed that are wanted from the beginning. */
  subscriptions?: readonly string[];
  /** Events that are kept. Default: 100. */
  keep?: number;
  /** Milliseconds between looks at sessions and status; 0: only when asked. Default: 30,000. */
  refreshMs?: number;
}

export interface UseWaystation {
  connected: boolean;
  state: State;
  health: Health;
  stats: Statistics;
  send: (type: string, data: Data, options?: Priority | SendOptions) => Promise<SendResult>;
  reconnect: () => void;
  /** The last events and messages in the order of their logs, oldest first. */
  events: readonly FeedEvent[];
  /** Connections of the same orchestrator. */
  sessions: readonly Session[];
  /** What the orchestrator's daemon says of itself: active, paused or error. */
  daemonStatus: string | undefined;
  /** Patterns that are subscribed, and how to change them. */
  subscriptions: readonly string[];
  subscribe: (pattern: string) => void;
  unsubscribe: (pattern: string) => void;
  /** Asks for sessions and status now. */
  refresh: () => Promise<void>;
}

/** Connects a client while a component is shown, and follows it. Whoever made the client closes it. */
export function useWaystation(client: Waystation, options: UseWaystationOptions = {}): UseWaystation {
  const { keep = 100, refreshMs = 30_000 } = options;
  const { state, health, stats } = useHealth(client);
  const [events, setEvents] = useState<readonly FeedEvent[]>([]);
  const [sessions, setSessions] = useState<readonly Session[]>([]);
  const [daemonStatus, setDaemonStatus] = useState<string>();
  const [subscriptions, setSubscriptions] = useState<readonly string[]>(options.subscriptions ?? []);
  const connected = state === 'connected';

  useEffect(() => {
    const add = (event: FeedEvent): void => setEvents((before) => [...before, event].slice(-keep));
    const offs = [client.on('event', add), client.on('message', add)];
    client.connect();
    return () => offs.forEach((off) => off());
  }, [client, keep]);

  const wanted = subscriptions.join(',');
  useEffect(() => (wanted ? client.subscribe(wanted.split(','), () => {}) : undefined), [client, wanted]);

  const refresh = useCallback(async () => {
    const [listed, config] = await Promise.all([client.rest('GET', '/api/daemon/sessions'), client.rest('GET', '/api/daemon/config')]);
    setSessions(listed.sessions ?? []);
    setDaemonStatus(config.orchestrator?.status);
  }, [client]);

  useEffect(() => {
    if (!connected) return undefined;
    // What cannot be asked now is asked again with the next turn.
    const ask = (): void => void refresh().catch(() => {});
    ask();
    const timer = refreshMs ? setInterval(ask, refreshMs) : undefined;
    return () => clearInterval(timer);
  }, [connected, refresh, refreshMs]);

  return useMemo(
    () => ({
      connected,
      state,
      health,
      stats,
      events,
      sessions,
      daemonStatus,
      subscriptions,
      refresh,
      send: (type, data, more) => client.send(type, data, more),
      reconnect: () => client.reconnect(),
      subscribe: (pattern) => setSubscriptions((before) => (before.includes(pattern) ? before : [...before, pattern])),
      unsubscribe: (pattern) => setSubscriptions((before) => before.filter((other) => other !== pattern)),
    }),
    [client, connected, state, health, stats, events, sessions, daemonStatus, subscriptions, refresh],
  );
}

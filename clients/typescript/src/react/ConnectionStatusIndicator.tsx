import type { ReactElement } from 'react';

import type { Waystation } from '../client.js';
import { useHealth } from './useHealth.js';
import { milliseconds, WORDS } from './words.js';

export interface ConnectionStatusIndicatorProps {
  client: Waystation;
  className?: string;
}

/** The connection in a word and a dot. Changes are read out by screen readers. */
export function ConnectionStatusIndicator({ client, className }: ConnectionStatusIndicatorProps): ReactElement {
  const { health, state } = useHealth(client);
  const { word, colour } = WORDS[health.status];
  const said = state === 'connecting' ? 'Connecting' : state === 'stopped' ? 'Stopped' : word;
  return (
    <span role="status" aria-live="polite" className={className} data-status={health.status} title={`Latency ${milliseconds(health.latency)}`}>
      <svg width="10" height="10" aria-hidden="true" style={{ marginRight: 6 }}>
        <circle cx="5" cy="5" r="5" fill={colour} />
      </svg>
      {said}
    </span>
  );
}

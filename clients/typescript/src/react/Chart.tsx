import type { ReactElement } from 'react';

import { milliseconds } from './words.js';

const WIDTH = 386;
const HEIGHT = 60;
const POINTS = 60;

/** Latencies as a line; where there are none the line is broken. */
export function Chart({ values }: { values: readonly (number | null)[] }): ReactElement {
  const known = values.filter((value) => value !== null);
  const most = Math.max(10, ...known);
  const x = (index: number): number => ((index + POINTS - values.length) * WIDTH) / (POINTS - 1);
  const y = (value: number): number => HEIGHT - 2 - (value / most) * (HEIGHT - 4);
  const path = values
    .map((value, index) => (value === null ? '' : `${index && values[index - 1] !== null ? 'L' : 'M'}${x(index).toFixed(1)} ${y(value).toFixed(1)}`))
    .join('');
  const said = known.length ? `Latency of the last minute: ${milliseconds(Math.min(...known))} to ${milliseconds(Math.max(...known))}` : 'No latency was measured';
  return (
    <svg role="img" aria-label={said} viewBox={`0 0 ${WIDTH} ${HEIGHT}`} width="100%" height={HEIGHT} style={{ background: '#f4f4f5', borderRadius: 4 }}>
      <path d={path} fill="none" stroke="#2563eb" strokeWidth="1.5" strokeLinejoin="round" strokeLinecap="round" />
    </svg>
  );
}

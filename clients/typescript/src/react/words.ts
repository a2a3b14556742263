import type { HealthStatus } from '../types.js';

/** What people read, and the colour beside it; each has a contrast of at least 4.5 to white. */
export const WORDS: Record<HealthStatus, { word: string; colour: string }> = {
  healthy: { word: 'Healthy', colour: '#15803d' },
  degraded: { word: 'Degraded', colour: '#a16207' },
  unhealthy: { word: 'Unhealthy', colour: '#c2410c' },
  disconnected: { word: 'Disconnected', colour: '#b91c1c' },
};

/** The colour of a latency: of the health that it alone would mean. */
export const colourOf = (latency: number): string => WORDS[latency <= 250 ? 'healthy' : latency <= 1000 ? 'degraded' : 'unhealthy'].colour;

export const milliseconds = (latency: number | null): string => (latency === null ? '–' : `${Math.round(latency)} ms`);

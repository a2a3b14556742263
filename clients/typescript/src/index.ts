export type { Thresholds } from './alerts.js';
export { Waystation } from './client.js';
export type { Options, Settings } from './options.js';
export { MemoryStore } from './outbox.js';
export type { RetryPolicy } from './retry.js';
export * from './types.js';

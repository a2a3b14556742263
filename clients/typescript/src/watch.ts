import { Alerts, type Thresholds } from './alerts.js';
import type { Events, Health, State, Statistics } from './types.js';

/** Looks at what happens: counters, latency, health, alerts. */
export class Watch {
  readonly counts = { messagesSent: 0, messagesReceived: 0, duplicatesFiltered: 0, reconnectCount: 0, failures: 0 };
  #alerts: Alerts;
  #latency: number | null = null;
  #average: number | null = null;
  #failures = 0;
  #late = false;

  constructor(thresholds?: Thresholds) {
    this.#alerts = new Alerts(thresholds);
  }

  /** A new connection begins with a clean sheet. */
  letIn(): void {
    this.#failures = 0;
    this.#late = false;
  }

  answered(latency: number, now: number): void {
    this.#latency = latency;
    this.#average = this.#average === null ? latency : this.#average * 0.9 + latency * 0.1;
    this.#failures = 0;
    this.#alerts.outcome(now, false);
  }

  failed(now: number): void {
    this.#failures += 1;
    this.counts.failures += 1;
    this.#alerts.outcome(now, true);
  }

  /** Whether messages wait too long: one failure until none does. */
  late(late: boolean, now: number): void {
    if (late && !this.#late) this.failed(now);
    this.#late = late;
  }

  statistics(queued: number): Statistics {
    return { ...this.counts, queued, averageLatency: this.#average };
  }

  health(state: State, queueSize: number): Health {
    const { latency, queueSize: long, consecutiveFailures: many } = this.#alerts.thresholds;
    const slow = this.#failures || (this.#latency ?? 0) > latency || queueSize > long;
    const up = this.#failures >= many ? 'unhealthy' : slow ? 'degraded' : 'healthy';
    return { status: state === 'connected' ? up : 'disconnected', latency: this.#latency, consecutiveFailures: this.#failures, queueSize };
  }

  /** Alerts that have changed. */
  alerts(now: number, queueSize: number): Events['alert'][] {
    return this.#alerts.check(now, { latency: this.#latency ?? 0, consecutiveFailures: this.#failures, queueSize });
  }
}

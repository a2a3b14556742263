/** Above which values the client raises an alert; it is lowered when the value is back. */
export interface Thresholds {
  /** Milliseconds of the mean. Default: 1,000. */
  latency?: number;
  /** In a row. Default: 3. */
  consecutiveFailures?: number;
  /** Messages that wait. Default: 50. */
  queueSize?: number;
  /** Failures per message and probe of the last minute, from 0 to 1. Default: 0.1. */
  errorRate?: number;
}

const DEFAULTS: Required<Thresholds> = { latency: 1000, consecutiveFailures: 3, queueSize: 50, errorRate: 0.1 };
/** Fewer outcomes than this say nothing of a rate. */
const ENOUGH = 10;
const MINUTE = 60_000;

/** Compares what is measured with the thresholds. */
export class Alerts {
  readonly thresholds: Required<Thresholds>;
  #raised = new Set<string>();
  #outcomes: [at: number, failed: boolean][] = [];

  constructor(thresholds: Thresholds = {}) {
    this.thresholds = { ...DEFAULTS, ...thresholds };
  }

  outcome(at: number, failed: boolean): void {
    this.#outcomes.push([at, failed]);
    if (this.#outcomes.length > 1000) this.#outcomes.shift();
  }

  /** Those that have changed. */
  check(now: number, values: Omit<Record<keyof Thresholds, number>, 'errorRate'>): { name: string; value: number; threshold: number; raised: boolean }[] {
    this.#outcomes = this.#outcomes.filter(([at]) => at > now - MINUTE);
    const failed = this.#outcomes.filter(([, failed]) => failed).length;
    const errorRate = this.#outcomes.length < ENOUGH ? 0 : failed / this.#outcomes.length;
    return Object.entries({ ...values, errorRate }).flatMap(([name, value]) => {
      const threshold = this.thresholds[name as keyof Thresholds];
      const raised = value > threshold || (name === 'consecutiveFailures' && value >= threshold);
      if (raised === this.#raised.has(name)) return [];
      if (raised) this.#raised.add(name);
      else this.#raised.delete(name);
      return [{ name, value, threshold, raised }];
    });
  }
}

/** How a client comes back. */
export interface RetryPolicy {
  /** The first wait is drawn from zero to this, in milliseconds; it doubles. Default: 1,000. */
  firstMs: number;
  /** It never grows beyond this. Default: 60,000. */
  mostMs: number;
  /** So many failures in a row open the breaker. Default: 10. */
  attempts: number;
  /** How long an open breaker rests before one attempt tries whether it may close. Default: 60,000. */
  restMs: number;
}

export type Breaker = 'closed' | 'open' | 'half-open';

/** Counts failures, and says how long to wait: full jitter and a breaker, without clock or randomness of its own. */
export class Retry {
  failures = 0;
  breaker: Breaker = 'closed';
  #before = 0;

  constructor(readonly policy: RetryPolicy) {}

  trying(): void {
    if (this.breaker === 'open') this.breaker = 'half-open';
  }

  connected(): void {
    this.#before = this.failures;
    this.failures = 0;
    this.breaker = 'closed';
  }

  /** The gateway that let the client in does not keep to the protocol: that was no success. */
  violated(): void {
    this.failures += this.#before;
    this.#before = 0;
  }

  /** Answers the milliseconds to wait. `random` is from 0 up to 1. */
  failed(atLeast: number, random: number): number {
    const { firstMs, mostMs, attempts, restMs } = this.policy;
    this.failures += 1;
    if (this.failures >= attempts || this.breaker === 'half-open') {
      this.breaker = 'open';
      return Math.max(restMs, atLeast) * (1 + random / 4);
    }
    return atLeast + random * Math.min(mostMs, firstMs * 2 ** (this.failures - 1));
  }
}

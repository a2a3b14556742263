/** What a client does after a close. */
export type Verdict = { retry: number } | 'new-token' | 'stop';

const seconds = (n: number): Verdict => ({ retry: n * 1000 });

/** docs/protocol.md, "Close codes". */
const CODES: Record<number, Verdict> = {
  1000: 'stop',
  1002: 'stop',
  1007: 'stop',
  1009: 'stop',
  // A token that was refused may be replaced once; whoever gives tokens is told that it was.
  4001: 'new-token',
  4002: seconds(1),
  4003: 'new-token',
  4004: seconds(60),
  4005: 'stop',
  4006: 'stop',
  4008: seconds(1),
  4009: 'stop',
  4010: seconds(1),
  4011: seconds(60),
  4012: seconds(1),
  4013: seconds(5),
};

/** What to do after a close with this code; one that is not known is worth another try. */
export const verdict = (code: number): Verdict => CODES[code] ?? { retry: 0 };

import { type Occasion, type Token, WaystationError } from './types.js';

/** When a JWT ends, in milliseconds; it is not verified. */
function expiryOf(jwt: string): number | undefined {
  try {
    return JSON.parse(atob(jwt.split('.')[1]!.replace(/-/g, '+').replace(/_/g, '/'))).exp * 1000 || undefined;
  } catch {
    return undefined;
  }
}

/** One that ends sooner is not worth a login. */
const NEARLY_OVER = 5000;
/** Refused in a row. */
const REFUSALS = 2;

/** The present access token. */
export class TokenKeeper {
  /** Empty: there is none. */
  token = '';
  expires: number | undefined;
  #refusals = 0;

  constructor(readonly getToken: (occasion: Occasion) => Promise<string | Token> | string | Token) {}

  /** Makes sure that there is one that lasts. */
  async need(): Promise<void> {
    if (this.token && !(this.expires! - Date.now() < NEARLY_OVER)) return;
    await this.get(this.#refusals || this.expires! < Date.now() ? 'refused' : this.token ? 'renewal' : 'first');
  }

  async get(occasion: Occasion): Promise<void> {
    try {
      const got = await this.getToken(occasion);
      const { accessToken, expiresAt } = typeof got === 'string' ? { accessToken: got, expiresAt: undefined } : got;
      this.token = accessToken;
      this.expires = expiresAt?.getTime() ?? expiryOf(accessToken);
    } catch (error) {
      throw error instanceof WaystationError ? error : new WaystationError('TOKEN_UNAVAILABLE', String(error));
    }
  }

  /** The gateway refused it; answers how often in a row, or nothing if that is enough. */
  refused(): number | undefined {
    this.token = '';
    this.#refusals += 1;
    return this.#refusals > REFUSALS ? undefined : this.#refusals;
  }

  taken(): void {
    this.#refusals = 0;
  }
}

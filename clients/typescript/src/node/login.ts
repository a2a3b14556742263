import { type Occasion, type Token, WaystationError } from '../types.js';

/** Logs in with an API key, which belongs on a server and never into a page; answers what `getToken` wants. */
export function apiKeyTokens(options: {
  /** As `https://gateway.example.com`. */
  url: string;
  apiKey: string;
  apiSecret: string;
  orchestratorId?: string;
  /** Binds the tokens to one daemon, so that its requests and its socket are known as the same. */
  daemonId?: string;
  scopes?: string[];
  fetch?: typeof fetch;
}): (occasion: Occasion) => Promise<Token> {
  const { url, fetch: get = fetch, ...login } = options;
  let refreshToken: string | undefined;
  const post = async (path: string, body: object): Promise<Token> => {
    const headers = { 'content-type': 'application/json' };
    const response = await get(url.replace(/^ws/, 'http').replace(/(\w)\/.*$/, '$1') + path, { method: 'POST', headers, body: JSON.stringify(body) });
    const said = await response.json();
    if (!response.ok) {
      const forGood = response.status < 500 && response.status !== 429 && response.status !== 408;
      throw new WaystationError(forGood ? 'CREDENTIALS_REFUSED' : 'TOKEN_UNAVAILABLE', `${said.code}: ${said.error}`);
    }
    refreshToken = said.refreshToken;
    return { accessToken: said.accessToken, expiresAt: new Date(said.expiresAt) };
  };
  return async (occasion) => {
    const present = refreshToken;
    refreshToken = undefined;
    if (present && occasion !== 'refused') {
      try {
        return await post('/api/daemon/auth/refresh', { refreshToken: present });
      } catch {
        // That login is over, or the answer was lost: a new one.
      }
    }
    return post('/api/daemon/auth', login);
  };
}

// Serves the example page, and logs in for it: node example/serve.mjs [dev.json] [gateway] [port]
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';

import { build } from 'esbuild';

const [file = '../../.waystation/dev.json', gateway, port = '0'] = process.argv.slice(2);
const dev = () => JSON.parse(readFileSync(file, 'utf8'));
const bundled = await build({
  entryPoints: [new URL('page.tsx', import.meta.url).pathname],
  bundle: true,
  format: 'esm',
  jsx: 'automatic',
  minify: true,
  define: { 'process.env.NODE_ENV': '"production"' },
  write: false,
});
const script = bundled.outputFiles[0].text;
const html = `<!doctype html><html lang="en"><meta charset="utf-8"><title>Waystation</title><div id="root"></div><script type="module" src="/page.js"></script></html>`;

/** Logs in with the API key that only this server knows. */
async function token() {
  const { api_key: apiKey, api_secret: apiSecret, http_url: http } = dev();
  const response = await fetch(`${http}/api/daemon/auth`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ apiKey, apiSecret, orchestratorId: 'orla' }),
  });
  return (await response.json()).accessToken;
}

const server = createServer(async (request, response) => {
  const answer = (type, body) => response.writeHead(200, { 'content-type': type, 'cache-control': 'no-store' }).end(body);
  try {
    const path = request.url?.split('?')[0];
    if (path === '/page.js') answer('text/javascript', script);
    else if (path === '/config') answer('application/json', JSON.stringify({ url: gateway || dev().gateway_url, orchestratorId: 'orla', daemonId: 'page' }));
    else if (path === '/token') answer('text/plain', await token());
    else answer('text/html', html);
  } catch (error) {
    response.writeHead(503).end(String(error));
  }
});
server.listen(Number(port), '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));

// The HTTP client of the older platform, unmodified, against a running gateway.
// Arguments: its directory, then the base URL, the key and its secret. Prints what it was answered, as JSON.
'use strict';
const path = require('node:path');
const [directory, baseUrl, apiKey, apiSecret] = process.argv.slice(2);
const { NeolithApiClient } = require(path.join(directory, 'dist/neolith/api-client.js'));

async function main() {
  const client = new NeolithApiClient({ baseUrl, apiKey, apiSecret, retryAttempts: 1 });
  const login = await client.authenticate(['messages:read', 'messages:write']);
  const first = login.accessToken;
  // It keeps its refresh token for as long as it runs, whatever it is answered.
  const refreshes = [];
  for (let round = 0; round < 3; round++) {
    const { accessToken, expiresAt } = await client.refreshAccessToken();
    refreshes.push(accessToken !== first && new Date(expiresAt) > new Date());
  }
  const heartbeat = await client.sendHeartbeat({
    status: 'busy',
    metrics: { memoryUsageMB: 256, cpuUsagePercent: 15.5, lastTaskCompletedAt: new Date().toISOString() },
  });
  const status = await client.updateStatus('active', { message: 'Processing requests' });
  const config = await client.getConfig();
  // Messages and channels are not asked: they come with events.
  const refused = await new NeolithApiClient({ baseUrl, apiKey, apiSecret: 'wsk_wrong' })
    .authenticate()
    .then(() => 'accepted', (error) => error.message);
  console.log(JSON.stringify({ login, refreshes, heartbeat, status, config, refused }));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});

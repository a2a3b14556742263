// The federation peer of the older platform, unmodified, against a running gateway.
// Arguments: its directory, the URL of /federation, a token, its orchestrator and the one that it delegates to.
// Does the task that it is offered, then hands one on; prints what it was told, as JSON.
'use strict';
const path = require('node:path');
const WebSocket = require('ws');
const [directory, url, token, own, other] = process.argv.slice(2);
const { OrchestratorConnection } = require(path.join(directory, 'dist/federation/connection.js'));

const socket = new WebSocket(url, { headers: { authorization: `Bearer ${token}` } });
const peer = new OrchestratorConnection({ id: own, socket, capabilities: ['research'] });
const said = { statuses: [], callbacks: [] };

function send(type, payload, to, correlationId) {
  return peer.sendMessage({ type, payload, from: own, to, timestamp: new Date(), correlationId });
}

peer.on('error', (error) => {
  console.error(error);
  process.exit(1);
});
peer.on('status', (health) => said.statuses.push(health.status));
peer.on('heartbeat', () => (said.heartbeat = peer.status));
peer.on('delegation', async (request) => {
  said.request = request;
  said.response = await peer.acceptDelegation(request);
  const taskId = request.task.id;
  const to = request.fromOrchestratorId;
  await send('callback', { taskId, status: 'progress', progress: 50 }, to, taskId);
  await send('callback', { taskId, status: 'completed', result: { answer: 42 } }, to, taskId);
  const task = { id: 'older-1', type: 'analysis', description: 'look at it', priority: 'high' };
  const context = { scratchpad: { seen: [1, 2] } };
  await send('delegation', { fromOrchestratorId: own, toOrchestratorId: other, task, priority: 'high', context }, other);
});
peer.on('callback', async (callback) => {
  said.callbacks.push(callback);
  if (callback.status === 'completed') {
    said.health = peer.isHealthy();
    console.log(JSON.stringify(said));
    await peer.disconnect();
  }
});
socket.on('open', () =>
  send('heartbeat', { orchestratorId: own, timestamp: new Date(), status: 'healthy', activeConnections: 1 }, 'waystation'),
);

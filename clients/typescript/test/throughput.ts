/** Receives and acknowledges so many messages, by this client or by `ws` alone, and tells how long that took: for `make bench`. */
import { Waystation } from '../src/index.js';

const [way, url, warm, count] = [process.argv[2]!, process.argv[3]!, Number(process.argv[4]), Number(process.argv[5])];
const { default: WebSocket } = await import('ws' as string);
const saw = (what: string, more: object = {}): void => void process.stdout.write(`${JSON.stringify({ saw: what, ...more })}\n`);

let seen = 0;
let begun = 0;
function one(): void {
  seen += 1;
  if (seen === warm) {
    saw('warm');
    begun = performance.now();
  }
  if (seen === warm + count) saw('done', { seconds: (performance.now() - begun) / 1000 });
}

if (way === 'ws') {
  // What one would write by hand: parse, take, acknowledge.
  const socket = new WebSocket(`${url}/daemon/ws`);
  const say = (type: string, payload: object): void => socket.send(JSON.stringify({ type, id: '1', timestamp: new Date().toISOString(), payload }));
  socket.on('open', () => say('auth', { accessToken: 't', orchestratorId: 'orla', daemonId: 'd1' }));
  socket.on('message', (text: Buffer) => {
    const frame = JSON.parse(text.toString());
    if (frame.type !== 'event') return;
    one();
    say('ack', { eventIds: [frame.payload.eventId] });
  });
} else {
  const client = new Waystation({ url, orchestratorId: 'orla', daemonId: 'd1', getToken: () => 't', WebSocket, maxInFlight: 1000, transports: ['websocket'] });
  client.onMessage(one);
  client.connect();
}
// Its CPU is looked at before it ends.
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));

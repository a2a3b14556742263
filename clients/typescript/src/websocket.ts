import type { Listener, Transport, World } from './transport.js';
import type { Frame } from './types.js';

/** Answers 1000 for codes that a page may not send. */
const sendable = (code: number): number => (code === 1000 || (code >= 3000 && code < 5000) ? code : 4000);

/** A WebSocket. */
export function openWebSocket(world: World, auth: () => Frame, listener: Listener): Transport {
  const socket = new world.WebSocket(world.url);
  let over = false;
  const end = (code: number, reason: string): void => {
    if (!over) {
      over = true;
      listener.closed(code, reason);
    }
  };
  socket.onopen = () => socket.send(JSON.stringify(auth()));
  socket.onmessage = ({ data }: { data: unknown }) => {
    if (over) return;
    listener.life();
    let frame: Frame | undefined;
    try {
      frame = typeof data === 'string' ? JSON.parse(data) : undefined;
    } catch {}
    if (typeof frame?.type === 'string') listener.frame(frame);
    else listener.garbage(`not a frame: ${String(data).slice(0, 64)}`);
  };
  socket.onerror = () => {};
  socket.onclose = ({ code, reason }) => end(code || 1006, reason);
  return {
    name: 'websocket',
    send: (frame) => socket.send(JSON.stringify(frame)),
    close: (code = 1000) => {
      // A dead line would not close for long.
      end(1006, 'given up');
      socket.close(sendable(code));
    },
  };
}

import { type FeedEvent, PRIORITIES, type Position } from './types.js';

/** Reads what an `event` frame carries. Throws if it is none. */
export function readContent(payload: any): FeedEvent {
  const { eventId: id, eventType: type, data, epoch, lane, sequence, channelId, senderOrchestratorId } = payload;
  const log = payload.log === 'feed' ? 'feed' : 'mailbox';
  const fits = typeof id === 'string' && typeof type === 'string' && typeof epoch === 'string' && (log === 'feed' || PRIORITIES.includes(lane));
  if (!fits || !Number.isSafeInteger(sequence) || sequence < 1) throw new Error('it is neither message nor event');
  const position = { log, epoch, sequence, ...(lane && { lane }) } as Position;
  return { id, type, data: data ?? {}, ...(channelId && { channelId }), ...(senderOrchestratorId && { senderOrchestratorId }), position };
}

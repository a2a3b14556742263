-- What became of a message. ARGV: mailbox, id, and the epoch, lane and sequence that the id names, or ''.
-- Answers its state, and epoch, lane and sequence.
local m = load(ARGV[1])
local epoch, lane, sequence = ARGV[3], ARGV[4], tonumber(ARGV[5])
local known = m.e ~= '' and call('HGET', m.base .. 'd', ARGV[2])
if known then
  lane, sequence = string.match(known, '^(%l) (%d+)')
  sequence = tonumber(sequence)
  epoch = owner(m, lane, sequence)
end
if m.e == '' or epoch == '' then return {'u'} end
return {state(m, epoch, lane, sequence), epoch, lane, sequence}

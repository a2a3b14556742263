-- Renews a lease or takes it for the first time. ARGV: incarnation, address, 1 if draining, duration.
-- Answers 1, or 0 if it had ended: it cannot be revived.
local known = call('HGET', KEYS[1], ARGV[1])
if known and lease(known) <= NOW then return 0 end
call('HSET', KEYS[1], ARGV[1], (NOW + ARGV[4]) .. ' ' .. ARGV[3] .. ' ' .. ARGV[2])
return 1

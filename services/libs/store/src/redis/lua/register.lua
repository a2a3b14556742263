-- Says which process serves an orchestrator. ARGV: mailbox, instance, what it says of itself. Answers whether it does now:
-- 0: another does, and lives.
local key = key_of(ARGV[1], 'n')
local known = call('HMGET', key, 'instance', 'at', 'heartbeat')
if known[1] and known[1] ~= ARGV[2] then
  local heard = math.max(tonumber(known[2]), tonumber(known[3] or 0))
  if NOW - heard <= @REGISTRATION_SILENCE then
    remember(ARGV[1])
    return 0
  end
end
call('HSET', key, 'instance', ARGV[2], 'info', ARGV[3], 'at', NOW)
remember(ARGV[1])
return 1

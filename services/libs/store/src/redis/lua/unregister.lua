-- That a process does not serve an orchestrator any more. ARGV: mailbox, instance. Answers whether it did.
local key = key_of(ARGV[1], 'n')
if call('HGET', key, 'instance') ~= ARGV[2] then return 0 end
return call('HDEL', key, 'instance', 'info', 'at') > 0 and 1 or 0

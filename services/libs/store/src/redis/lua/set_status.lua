-- Says whether an orchestrator may be used. ARGV: organization, id, status. Answers 1, or 0 if the organization is not
-- there.
if call('HEXISTS', BASE .. 'organizations', ARGV[1]) == 0 then return 0 end
local id = ARGV[1] .. '/' .. ARGV[2]
call('HSET', BASE .. 'statuses', id, ARGV[3])
call('HSET', BASE .. 'updated', id, NOW)
return 1

-- Takes what an orchestrator says of how it does. ARGV: organization, id, JSON. Answers whether it is registered.
local base = base_of(ARGV[1])
if call('HEXISTS', base .. 'o', ARGV[2]) == 0 then return 0 end
call('HSET', base .. 's', ARGV[2], ARGV[3])
touch(base, ARGV[2])
return 1

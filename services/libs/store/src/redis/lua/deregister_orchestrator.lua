-- Takes an orchestrator out. ARGV: organization, id. Answers whether it was there.
local base = base_of(ARGV[1])
if call('HDEL', base .. 'o', ARGV[2]) == 0 then return 0 end
call('HDEL', base .. 's', ARGV[2])
call('HDEL', base .. 't', ARGV[2])
if call('HLEN', base .. 'o') == 0 then call('SREM', WITH_REGISTRY, ARGV[1]) end
touch(base, ARGV[2])
return 1

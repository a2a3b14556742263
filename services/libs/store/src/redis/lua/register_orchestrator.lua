-- Replaces what is known of an orchestrator. ARGV: organization, id, slots, JSON, what everybody is told of a new one.
local base = base_of(ARGV[1])
call('HSET', base .. 'o', ARGV[2], ARGV[3] .. ' ' .. ARGV[4])
call('HSETNX', base .. 't', ARGV[2], ARGV[5])
call('SADD', WITH_REGISTRY, ARGV[1])
touch(base, ARGV[2])
return 1

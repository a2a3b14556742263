-- Replaces what is known of an orchestrator. ARGV: organization, id, slots, JSON.
local base = base_of(ARGV[1])
call('HSET', base .. 'o', ARGV[2], ARGV[3] .. ' ' .. ARGV[4])
touch(base, ARGV[2])
return 1

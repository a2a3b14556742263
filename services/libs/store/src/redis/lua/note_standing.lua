-- Notes what everybody has been told of an orchestrator. ARGV: organization, id, what that was, what it is. Answers whether
-- it was so.
local base = base_of(ARGV[1])
if call('HGET', base .. 't', ARGV[2]) ~= ARGV[3] then return 0 end
call('HSET', base .. 't', ARGV[2], ARGV[4])
touch(base, ARGV[2])
return 1

-- Takes an orchestrator out. ARGV: organization, id. Answers whether it was there.
local base = base_of(ARGV[1])
if call('HDEL', base .. 'o', ARGV[2]) == 0 then return 0 end
touch(base, ARGV[2])
return 1

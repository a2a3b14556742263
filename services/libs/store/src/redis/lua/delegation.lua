-- One delegation. ARGV: organization, id. Answers version and JSON, or nothing.
local found = call('HMGET', base_of(ARGV[1]) .. 'd:' .. ARGV[2], 'v', 'j')
return found[1] and found or {}

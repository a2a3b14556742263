-- Entries of a delegation's context. ARGV: organization, id, names. Answers version, a space and JSON of each, or ''.
local found = call('HMGET', base_of(ARGV[1]) .. 'c:' .. ARGV[2], unpack(ARGV, 3, #ARGV - 1))
for i = 1, #found do found[i] = found[i] or '' end
return found

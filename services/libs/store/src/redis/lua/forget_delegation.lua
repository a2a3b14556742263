-- Lets a delegation go. ARGV: organization, id, its version. Answers whether it was of this version.
local base, id = base_of(ARGV[1]), ARGV[2]
local key = base .. 'd:' .. id
local known = call('HMGET', key, 'v', 'h', 'l')
if not known[1] or tonumber(known[1]) ~= tonumber(ARGV[3]) then return 0 end
if known[2] ~= '' then release(base, known[2], id) end
call('ZREM', base .. 'l', known[3])
call('ZREM', DUE, ARGV[1] .. '/' .. id)
call('DEL', key, base .. 'c:' .. id)
return 1

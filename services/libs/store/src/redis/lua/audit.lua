-- Events of a chain. ARGV: chain, sequence after which to begin or '' for the last event alone, how many.
local key, found = BASE .. 'audit:' .. ARGV[1], nil
if ARGV[2] == '' then
  found = call('XREVRANGE', key, '+', '-', 'COUNT', 1)
else
  found = call('XRANGE', key, '(' .. ARGV[2], '+', 'COUNT', ARGV[3])
end
local answer = {}
for _, one in ipairs(found) do table.insert(answer, one[2][2]) end
return answer

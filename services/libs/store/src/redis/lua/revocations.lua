-- Revocations after a cursor. ARGV: cursor. Answers cursor, entry and moment of each.
local answer = {}
for _, one in ipairs(call('XRANGE', BASE .. 'log', '(' .. ARGV[1], '+')) do
  table.insert(answer, {tonumber(string.match(one[1], '^%d+')), one[2][2], tonumber(one[2][4])})
end
return answer

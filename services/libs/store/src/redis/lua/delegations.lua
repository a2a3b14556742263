-- Delegations in the order in which they were made. ARGV: organization, place after which to begin or '', how many.
-- Answers version and JSON of each.
local base = base_of(ARGV[1])
local from = ARGV[2] == '' and '-' or '(' .. ARGV[2]
local answer = {}
for _, place in ipairs(call('ZRANGEBYLEX', base .. 'l', from, '+', 'LIMIT', 0, ARGV[3])) do
  answer[#answer + 1] = call('HMGET', base .. 'd:' .. string.sub(place, 18), 'v', 'j')
end
return answer

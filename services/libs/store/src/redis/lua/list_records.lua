-- Records of an organization in the order of their ids. ARGV: kind, organization, id after which to begin or '', how
-- many, what ids begin with. Answers record, 1 if it has been revoked, and state of each.
local from = ARGV[3] == '' and '-' or '(' .. ARGV[3]
local answer = {}
for _, member in ipairs(call('ZRANGEBYLEX', BASE .. 'list:' .. ARGV[1] .. ':' .. ARGV[2], from, '+', 'LIMIT', 0, ARGV[4])) do
  local id = ARGV[5] .. member
  local state = state_of(id)
  local revoked = is_revoked(ARGV[1], id) and 1 or 0
  table.insert(answer, {call('HGET', BASE .. ARGV[1], id), revoked, state[1], state[2], state[3]})
end
return answer

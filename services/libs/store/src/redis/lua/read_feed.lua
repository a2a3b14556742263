-- Reads on. ARGV: organization, after, most events, most bytes. Answers the extent, then for each event its sequence,
-- meta, data, and the publisher's id if there is one.
local f = load_feed(ARGV[1])
local after, most, bytes = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local answer = {extent(f)}
local from, used = string.format('%.0f-0', math.max(after, f.fl) + 1), 0
while most > 0 and f.hd > after do
  local list = call('XRANGE', f.base .. 'l', from, '+', 'COUNT', math.min(most, 32))
  for _, entry in ipairs(list) do
    local fields = entry[2]
    used = used + #fields[4]
    if #answer > 1 and used > bytes then return answer end
    answer[#answer + 1] = {string.match(entry[1], '^%d+'), fields[2], fields[4], fields[6]}
  end
  if #list < 32 then return answer end
  most = most - #list
  from = '(' .. list[#list][1]
end
return answer

-- Some mailboxes of a partition in numbers. ARGV: cursor. Answers the next cursor, then for each organization found its
-- name, mailboxes, resident entries, and the sum of the conservation deltas (R19).
local scan = call('SSCAN', 'all:' .. TAG, ARGV[1], 'COUNT', 100)
local order, sums = {}, {}
for _, k in ipairs(scan[2]) do
  local m = load(k)
  local depth = 0
  for _, lane in ipairs(LANES) do depth = depth + call('XLEN', m.base .. 'l' .. lane) end
  local organization = string.match(k, '^[^/]+')
  if not sums[organization] then
    sums[organization] = {0, 0, 0}
    order[#order + 1] = organization
  end
  local sum = sums[organization]
  sum[1], sum[2] = sum[1] + 1, sum[2] + depth
  sum[3] = sum[3] + math.abs(m.hc + m.hh + m.hn + m.hl - m.ka - m.ke - m.kd - m.ko - m.kp - depth)
end
local answer = {scan[1]}
for _, organization in ipairs(order) do
  answer[#answer + 1] = organization
  for _, number in ipairs(sums[organization]) do answer[#answer + 1] = number end
end
return answer

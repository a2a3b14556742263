-- Some mailboxes of a partition in numbers. ARGV: cursor. Answers the next cursor, then for each organization found its
-- name, mailboxes, resident entries, the sum of the conservation deltas (R19), mailboxes that are four fifths full, and
-- when the oldest entry was accepted, or 0.
local scan = call('SSCAN', 'all:' .. TAG, ARGV[1], 'COUNT', 100)
local order, sums = {}, {}
for _, k in ipairs(scan[2]) do
  local m = load(k)
  local depth, oldest = 0, 0
  for _, lane in ipairs(LANES) do
    local length = call('XLEN', m.base .. 'l' .. lane)
    local first = length > 0 and range(m, lane, '-', '+', 1)[1]
    local accepted = first and tonumber(string.match(first.m, '^%d+')) or 0
    if oldest == 0 or (accepted > 0 and accepted < oldest) then oldest = accepted end
    depth = depth + length
  end
  local organization = string.match(k, '^[^/]+')
  if not sums[organization] then
    sums[organization] = {0, 0, 0, 0, 0}
    order[#order + 1] = organization
  end
  local sum = sums[organization]
  sum[1], sum[2] = sum[1] + 1, sum[2] + depth
  sum[3] = sum[3] + math.abs(m.hc + m.hh + m.hn + m.hl - m.ka - m.ke - m.kd - m.ko - m.kp - depth)
  if 5 * depth >= 4 * @MAILBOX_ENTRIES or 5 * m.b >= 4 * @MAILBOX_BYTES then sum[4] = sum[4] + 1 end
  if oldest > 0 and (sum[5] == 0 or oldest < sum[5]) then sum[5] = oldest end
end
local answer = {scan[1]}
for _, organization in ipairs(order) do
  answer[#answer + 1] = organization
  for _, number in ipairs(sums[organization]) do answer[#answer + 1] = number end
end
return answer

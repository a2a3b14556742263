-- Some mailboxes of a partition in numbers. ARGV: cursor. Answers the next cursor, mailboxes, resident entries, and the
-- sum of the conservation deltas (R19).
local scan = call('SSCAN', 'all:' .. TAG, ARGV[1], 'COUNT', 100)
local resident, delta = 0, 0
for _, k in ipairs(scan[2]) do
  local m = load(k)
  local depth = 0
  for _, lane in ipairs(LANES) do depth = depth + call('XLEN', m.base .. 'l' .. lane) end
  resident = resident + depth
  delta = delta + math.abs(m.hc + m.hh + m.hn + m.hl - m.ka - m.ke - m.kd - m.ko - m.kp - depth)
end
return {scan[1], #scan[2], resident, delta}

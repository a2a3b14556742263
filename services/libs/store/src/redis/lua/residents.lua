-- Resident entries, without any change. ARGV: mailbox, lane and sequence after which they are wanted, how many.
-- Answers the epochs, and for each entry lane, sequence, meta, data, attempt, 1 if in flight, and its caller's id.
local m = load(ARGV[1])
local from, after, most = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local found, reached = {}, false
for _, lane in ipairs(LANES) do
  if reached or lane == from then
    for entry in each(m, lane, reached and 0 or after + 1, math.min(most, 32)) do
      if #found == most then break end
      local place = lane .. entry.s
      local flies = in_flight(m, lane, entry.s) and 1 or 0
      found[#found + 1] = {lane, entry.s, entry.m, entry.d, attempt(m, place), flies, entry.i}
    end
    reached = true
  end
end
return {m.ep, found}

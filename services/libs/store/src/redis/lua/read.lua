-- Reads on from a position (rule 4). ARGV: mailbox, session, fence, read id, four positions, exits position,
-- entries, critical entries and bytes that fit, 1 if nothing is in flight.
-- Answers u or n if refused, else heads, positions, epochs, exits with how many were trimmed, and entries.
local k, session, fence, read_id = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local exits_position = tonumber(ARGV[9])
local most, critical, bytes, alone = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12]), ARGV[13] == '1'

local PATH = {'hd', 'ep', 'due', 'nw', 'na', 'nt', 'xh', 'xn', 'gm', 'hc', 'hh', 'hn', 'hl', 'sc', 'sh', 'sn', 'sl'}
local m = load(k, PATH, 2)
local held = holder(m)
if not (held and held.session == session and held.fence == fence) then
  return call('HEXISTS', m.base .. 's', session) == 1 and 'n' or 'u'
end
expire(m)

local positions = {}
for i, lane in ipairs(LANES) do positions[lane] = math.min(tonumber(ARGV[4 + i]), m['h' .. lane]) end

local found, used = {}, 0
local function takes(lane, entry)
  local fits = alone and #found == 0
    or #found < (lane == 'c' and critical or most) and used + #entry.d <= bytes
  if fits then
    entry.lane = lane
    table.insert(found, entry)
    used = used + #entry.d
  end
  return fits
end

-- Entries at or below the position that were nacked and are due, or that this very read has found before.
local THIS_READ = fence .. ' ' .. read_id
local function find_nacked()
  if m.nw == 0 and m.nt == 0 then return true end
  local wanted = {c = {}, h = {}, n = {}, l = {}}
  local function want(place)
    local lane, sequence = string.sub(place, 1, 1), tonumber(string.sub(place, 2))
    if sequence <= positions[lane] then table.insert(wanted[lane], sequence) end
  end
  for place, time in pairs(waiting(m)) do
    if time <= NOW then want(place) end
  end
  if m.nt > 0 then
    local taken = call('HGETALL', m.base .. 't')
    for i = 1, #taken, 2 do
      if taken[i + 1] == THIS_READ then want(taken[i]) end
    end
  end
  for _, lane in ipairs(LANES) do
    table.sort(wanted[lane])
    for _, sequence in ipairs(wanted[lane]) do
      local entry = range(m, lane, sequence, sequence, 1)[1]
      if entry and not takes(lane, entry) then return false end
    end
  end
  return true
end

-- What follows the position, in rounds of up to 8, 4, 2, 1 entries; one that does not fit ends the read.
local WEIGHTS = {c = 8, h = 4, n = 2, l = 1}
local function find_following()
  local waits = waiting(m)
  local following, ahead = {}, {}
  -- One more than can be taken: no payload is read for nothing.
  local piece = math.max(math.min(math.max(most, critical) - #found + 1, 32), 2)
  local function advance(lane)
    repeat
      ahead[lane] = following[lane]()
      local due = ahead[lane] and waits[lane .. ahead[lane].s]
    until not due or due <= NOW
  end
  for _, lane in ipairs(LANES) do
    if positions[lane] < m['h' .. lane] then
      following[lane] = each(m, lane, positions[lane] + 1, piece)
      advance(lane)
    end
  end
  repeat
    local before = #found
    for _, lane in ipairs(LANES) do
      for _ = 1, WEIGHTS[lane] do
        local entry = ahead[lane]
        if not entry then
          positions[lane] = m['h' .. lane]
          break
        end
        if not takes(lane, entry) then return end
        positions[lane] = entry.s
        advance(lane)
      end
    end
  until #found == before
end

if find_nacked() then find_following() end

local entries = {}
for i, entry in ipairs(found) do
  local lane, place = entry.lane, entry.lane .. entry.s
  if entry.s > m['s' .. lane] then put(m, 's' .. lane, entry.s) end
  if waiting(m)[place] then
    put(m, 'nw', m.nw - call('ZREM', m.base .. 'w', place))
    m.waits[place] = nil
    put(m, 'nt', m.nt + call('HSET', m.base .. 't', place, THIS_READ))
  end
  entries[i] = {lane, entry.s, entry.m, entry.d, attempt(m, place), entry.i}
end

local after = math.max(exits_position, m.gm)
local exits, trimmed = {}, 0
if m.xh > after then
  trimmed = math.max(m.xh - m.xn - after, 0)
  for _, exit in ipairs(call('XRANGE', m.base .. 'x', after + 1, '+')) do table.insert(exits, exit[2][2]) end
end
save(m)
local reached = {positions.c, positions.h, positions.n, positions.l}
return {heads(m), reached, m.ep, after, trimmed, exits, entries}

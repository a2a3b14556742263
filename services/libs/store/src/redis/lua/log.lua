-- The log of a mailbox: what is in it and how it leaves. An entry is `{s sequence, m meta, d data, i id}`; its meta is
-- `accepted expires own|cap type channel trace sender`; a place is its lane's letter and its sequence.

local function entry_of(raw)
  local fields = raw[2]
  return {s = tonumber(string.match(raw[1], '^%d+')), m = fields[2], d = fields[4], i = fields[6]}
end

-- At most `count` entries of a lane.
local function range(m, lane, from, to, count)
  local list = call('XRANGE', m.base .. 'l' .. lane, from, to, 'COUNT', count)
  for i, raw in ipairs(list) do list[i] = entry_of(raw) end
  return list
end

-- Entries of a lane from a sequence on, read in pieces of 32 or as given.
local function each(m, lane, from, piece)
  local list, at = {}, 0
  piece = piece or 32
  return function()
    at = at + 1
    if at > #list then
      if from == nil then return nil end
      list, at = range(m, lane, from, '+', piece), 1
      from = #list == piece and list[piece].s + 1 or nil
    end
    return list[at]
  end
end

-- Entries that wait out a nack, or that no read has found since: place → moment.
local function waiting(m)
  if not m.waits then
    m.waits = {}
    if m.nw > 0 then
      local all = call('ZRANGE', m.base .. 'w', 0, -1, 'WITHSCORES')
      for i = 1, #all, 2 do m.waits[all[i]] = tonumber(all[i + 1]) end
    end
  end
  return m.waits
end

local function in_flight(m, lane, sequence)
  return sequence <= m['s' .. lane] and m.hd ~= '' and not waiting(m)[lane .. sequence]
end

local function attempt(m, place)
  return m.na > 0 and tonumber(call('HGET', m.base .. 'a', place) or 1) or 1
end

-- Heads of the lanes, of the exits, and how long until the next nacked entry is due; -1: none.
local function heads(m)
  local due = -1
  for _, time in pairs(waiting(m)) do
    if due < 0 or time < due then due = time end
  end
  if due >= 0 then due = math.max(due - NOW, 0) end
  return {m.hc, m.hh, m.hn, m.hl, m.xh, due}
end

-- Keeps the newest exits; the floor says what can no longer be told.
local function trim_exits(m)
  local key = m.base .. 'x'
  while m.xn > 0 do
    local first = call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
    local lane, sequence, at = string.match(first[2][2], '^(%l) (%d+) %l+ (%d+)$')
    if m.xn <= @EXITS and NOW - at <= @EXITS_AGE then return end
    local floor = 'f' .. lane
    put(m, floor, math.max(m[floor], tonumber(sequence)))
    call('XDEL', key, first[1])
    put(m, 'xn', m.xn - 1)
  end
end

local COUNTERS = {expired = 'ke', dead = 'kd', overflowed = 'ko', purged = 'kp'}

-- The only way out of a lane: entries that this call has read, in their order. No reason: acknowledged.
local function remove(m, lane, list, reason)
  if #list == 0 then return 0 end
  local ids, places, bytes = {}, {}, 0
  for i, entry in ipairs(list) do
    ids[i], places[i], bytes = entry.s, lane .. entry.s, bytes + #entry.d
  end
  local removed = call('XDEL', m.base .. 'l' .. lane, unpack(ids))
  local counter = reason and COUNTERS[reason] or 'ka'
  put(m, 'n', m.n - removed)
  put(m, 'b', m.b - bytes)
  put(m, counter, m[counter] + removed)
  if m.nw > 0 then
    local waits = waiting(m)
    put(m, 'nw', m.nw - call('ZREM', m.base .. 'w', unpack(places)))
    for _, place in ipairs(places) do waits[place] = nil end
  end
  if m.na > 0 then put(m, 'na', m.na - call('HDEL', m.base .. 'a', unpack(places))) end
  if m.nt > 0 then put(m, 'nt', m.nt - call('HDEL', m.base .. 't', unpack(places))) end
  if m.ne > 0 then put(m, 'ne', m.ne - call('ZREM', m.base .. 'e', unpack(places))) end
  for _, entry in ipairs(list) do
    if reason then
      put(m, 'xh', m.xh + 1)
      put(m, 'xn', m.xn + 1)
      local exit = lane .. ' ' .. entry.s .. ' ' .. reason .. ' ' .. NOW
      call('XADD', m.base .. 'x', m.xh .. '-0', 'v', exit)
    end
    if entry.i then
      call('RPUSH', m.base .. 'r', NOW .. ' ' .. entry.i)
      if m.rn == 0 then put(m, 'ro', NOW) end
      put(m, 'rn', m.rn + 1)
    end
  end
  if reason then trim_exits(m) end
  return removed
end

-- Forgets callers' ids of settled messages that are old enough; a long queue in several steps.
local function forget_ids(m)
  for _ = 1, 1000 do
    local age = NOW - m.ro
    local old = m.rn > @IDS or m.rn > @IDS_NEWEST and age > @IDS_AGE_ALL or age > @IDS_AGE_NEWEST
    if m.rn == 0 or not old then return end
    local first = call('LPOP', m.base .. 'r')
    call('HDEL', m.base .. 'd', string.match(first, '^%d+ (.+)$'))
    put(m, 'rn', m.rn - 1)
    local next_one = call('LINDEX', m.base .. 'r', 0)
    put(m, 'ro', next_one and tonumber(string.match(next_one, '^%d+')) or 0)
  end
end

local function expiry(entry)
  local expires, kind = string.match(entry.m, '^%d+ (%d+) (%l+)')
  return tonumber(expires), kind == 'own'
end

-- Lets go what has expired and is not in flight (rule 15), at most so many if that is given: of the most urgent lanes, the
-- oldest. Entries with a time to live of their own are in `e`; the others expire in the order of their lane.
local function expire(m, most)
  if m.due == 0 or m.due > NOW then return end
  whole(m)
  local left = most or math.huge
  local places = {}
  if m.ne > 0 then places = call('ZRANGEBYSCORE', m.base .. 'e', '-inf', NOW) end
  for _, lane in ipairs(LANES) do
    if left == 0 then return end
    local expired, others = {}, 0
    for _, place in ipairs(places) do
      local sequence = tonumber(string.sub(place, 2))
      if string.sub(place, 1, 1) == lane and not in_flight(m, lane, sequence) then
        table.insert(expired, {s = sequence})
      end
    end
    if m.ne < m.n then
      for entry in each(m, lane, '-') do
        local expires, own = expiry(entry)
        if not own then
          if expires > NOW or others == left then break end
          if not in_flight(m, lane, entry.s) then
            table.insert(expired, entry)
            others = others + 1
          end
        end
      end
    end
    table.sort(expired, function(a, b) return a.s < b.s end)
    while #expired > left do table.remove(expired) end
    -- Those with a time of their own are fetched only now that it is known which of them go.
    for i, entry in ipairs(expired) do
      if not entry.m then expired[i] = range(m, lane, entry.s, entry.s, 1)[1] end
    end
    remove(m, lane, expired, 'expired')
    left = left - #expired
  end
end

-- Rule 8: keeps a dead letter; the oldest make room.
local function bury(m, lane, entry, reason)
  whole(m)
  local epoch, attempts = owner(m, lane, entry.s), attempt(m, lane .. entry.s)
  local id = entry.i or (epoch .. '.' .. lane .. '.' .. entry.s)
  remove(m, lane, {entry}, 'dead')
  local key = m.base .. 'q'
  m.buried = (m.buried or 0) + 1
  due_by(m, NOW)
  put(m, 'qh', m.qh + 1)
  put(m, 'qn', m.qn + 1)
  put(m, 'qb', m.qb + #entry.d)
  local about = table.concat({NOW, epoch, lane, entry.s, attempts}, ' ')
  call('XADD', key, m.qh .. '-0', 'v', about, 'd', entry.d, 'i', id, 'm', entry.m, 'r', reason)
  while m.qn > 0 do
    local first = call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
    local fits = m.qn <= @DEAD_LETTERS and m.qb <= @DEAD_LETTER_BYTES
    if fits and NOW - string.match(first[2][2], '^%d+') <= @EXITS_AGE then return end
    call('XDEL', key, first[1])
    put(m, 'qn', m.qn - 1)
    put(m, 'qb', m.qb - #first[2][4])
  end
end

local USED_UP = 'attempts used up'

-- What became of a position: q queued, d and the attempt, a acknowledged, x and the reason, u unknown (rule 16).
local function state(m, epoch, lane, sequence)
  whole(m)
  if owner(m, lane, sequence) ~= epoch then return 'u' end
  if #call('XRANGE', m.base .. 'l' .. lane, sequence, sequence) > 0 then
    return in_flight(m, lane, sequence) and 'd' .. attempt(m, lane .. sequence) or 'q'
  end
  if m.xn > 0 then
    local wanted = '^' .. lane .. ' ' .. sequence .. ' (%l+) '
    for _, exit in ipairs(call('XRANGE', m.base .. 'x', '-', '+')) do
      local reason = string.match(exit[2][2], wanted)
      if reason then return 'x' .. reason end
    end
  end
  local known = sequence > 0 and sequence > m['f' .. lane] and sequence <= m['h' .. lane]
  return known and 'a' or 'u'
end

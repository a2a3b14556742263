-- A mailbox: what is kept of it beside its log.
-- The lanes by their letters, most urgent first.
local LANES = {'c', 'h', 'n', 'l'}

-- Fields of `h`: first texts, then numbers. By lane: h? head, s? sent mark, f? exits floor.
--   run, e, ep   life of the store that was seen last, its epoch, and all epochs with their first sequences
--   hd           the holder: session, fence, incarnation, window entries and bytes, address
--   mk           sent marks as the present activation found them
--   lh, rv, en   last holder, reservation, end of the last session
--   due          when a sweep should look; 0: never
--   n, b         entries and payload bytes; ne, nw, na, nt: sizes of `e`, `w`, `a`, `t`
--   ka ke kd ko kp  acknowledged, expired, dead, overflowed, purged
--   xh, xn, gm   head and length of the exits log, gap mark
--   fe, so, bo   fence; ordinal of the session opened last; number of the newest connection
--   rn, ro       callers' ids that age, and since when the oldest
--   qh, qn, qb   dead letters: last number, count, bytes
--   po, qt       what subscribers know: 1 if online, last dead letter
--   on           since when there have been sessions
local FIELDS = {
  'run', 'e', 'ep', 'hd', 'mk', 'lh', 'rv', 'en',
  'due', 'n', 'b', 'ne', 'nw', 'na', 'nt', 'hc', 'hh', 'hn', 'hl', 'sc', 'sh', 'sn', 'sl',
  'ka', 'ke', 'kd', 'ko', 'kp', 'xh', 'xn', 'fc', 'fh', 'fn', 'fl', 'gm', 'fe', 'so', 'bo', 'rn', 'ro', 'qh', 'qn', 'qb',
  'po', 'qt', 'on',
}
local TEXTS = 8

-- Fetches fields that are not there yet; the first of them are texts.
local function fetch(m, fields, texts)
  local values = call('HMGET', m.base .. 'h', unpack(fields))
  for i = 1, #fields do
    local field = fields[i]
    if m[field] == nil then m[field] = i > texts and tonumber(values[i] or 0) or values[i] or '' end
  end
  if m.due_was == nil then m.due_was = m.due end
end

-- A mailbox by its name `organization/orchestrator`. One that nobody has used has no epoch. On the path of messages
-- only some fields are fetched: each costs half a microsecond.
local function load(k, fields, texts)
  local m = {k = k, base = KEYS[1] .. ':' .. k .. ':', changed = {}}
  fetch(m, fields or FIELDS, texts or TEXTS)
  m.is_whole = fields == nil
  return m
end

-- Before anything that is not on the path of messages.
local function whole(m)
  if not m.is_whole then
    fetch(m, FIELDS, TEXTS)
    m.is_whole = true
  end
end

local function put(m, field, value)
  m[field] = value
  m.changed[field] = value
end

-- Writes what has been put.
local function save(m)
  local pairs_of = {}
  for field, value in pairs(m.changed) do
    pairs_of[#pairs_of + 1] = field
    pairs_of[#pairs_of + 1] = value
  end
  if #pairs_of > 0 then call('HSET', m.base .. 'h', unpack(pairs_of)) end
  m.changed = {}
  if m.due ~= m.due_was then
    if m.due == 0 then call('ZREM', 'due:' .. TAG, m.k) else call('ZADD', 'due:' .. TAG, m.due, m.k) end
    m.due_was = m.due
  end
end

local function due_by(m, time)
  if m.due == 0 or time < m.due then put(m, 'due', time) end
end

local function epochs(m)
  if not m.epochs then
    m.epochs = {}
    for e, c, h, n, l in string.gmatch(m.ep, '(%x+) (%d+) (%d+) (%d+) (%d+)') do
      table.insert(m.epochs, {e = e, c = tonumber(c), h = tonumber(h), n = tonumber(n), l = tonumber(l)})
    end
  end
  return m.epochs
end

-- Rule 11: an epoch begins if the store is not the one that was seen last.
local function ensure_epoch(m, fresh, now_alive)
  if m.run == now_alive then return end
  whole(m)
  if m.e == '' then call('SADD', 'all:' .. TAG, m.k) end
  local all = epochs(m)
  table.insert(all, {e = fresh, c = m.hc + 1, h = m.hh + 1, n = m.hn + 1, l = m.hl + 1})
  if #all > @EPOCHS then table.remove(all, 1) end
  local lines = {}
  for i, one in ipairs(all) do lines[i] = table.concat({one.e, one.c, one.h, one.n, one.l}, ' ') end
  put(m, 'ep', table.concat(lines, ';'))
  put(m, 'e', fresh)
  put(m, 'run', now_alive)
end

-- The epoch that owns a sequence. What is older than all that are remembered belongs to the oldest.
local function owner(m, lane, sequence)
  local all = epochs(m)
  for i = #all, 1, -1 do
    if all[i][lane] <= sequence then return all[i].e end
  end
  return all[1] and all[1].e
end

-- The holder of a mailbox, or nil.
local function holder(m)
  local session, fence, at, entries, bytes, address = string.match(m.hd, '^(%S+) (%d+) (%S+) (%d+) (%d+) (.*)$')
  if not session then return nil end
  return {
    session = session, fence = tonumber(fence), incarnation = at, entries = tonumber(entries),
    bytes = tonumber(bytes), address = address,
  }
end

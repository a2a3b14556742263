-- Acks, nacks, charges and rejects (rules 6 and 8). ARGV for each mailbox: name, session, fence, gap mark, number of
-- items, then these: `a epoch lane from to`, `i id[ epoch lane sequence]`, and fenced `n epoch lane sequence attempt
-- delay` and `r epoch lane sequence reason`; last, what is to be confirmed: `p epoch lane sequence` or `c` like `i`.
-- Answers for each mailbox: acknowledged, 1 if fenced off, heads, buried, how long each that was acknowledged took, and
-- 1 or 0 for each that was to be confirmed; or a text if it could not be done.

local function acknowledge(m, epoch, lane, from, to)
  to = math.min(to, m['s' .. lane])
  while from <= to do
    local read = range(m, lane, from, to, 500)
    if #read == 0 then return end
    from = read[#read].s + 1
    local list = {}
    for _, entry in ipairs(read) do
      if owner(m, lane, entry.s) == epoch then
        list[#list + 1] = entry
        m.took[#m.took + 1] = NOW - string.match(entry.m, '^%d+')
      end
    end
    remove(m, lane, list)
  end
end

-- Epoch, lane and sequence of an item that names an id; no sequence: not known.
local function named(m, item)
  local id, epoch, lane, sequence = string.match(item, '^%l(%S+) ?(%x*) ?(%l?) ?(%d*)$')
  local known = call('HGET', m.base .. 'd', id)
  if known then
    lane, sequence = string.match(known, '^(%l) (%d+)')
    epoch = owner(m, lane, tonumber(sequence))
  end
  return epoch, lane, tonumber(sequence)
end

local function acknowledge_id(m, item)
  local epoch, lane, sequence = named(m, item)
  if sequence then acknowledge(m, epoch, lane, sequence, sequence) end
end

-- For each item to be confirmed, 1 if it is acknowledged.
local function confirm(m, items)
  local answers = {}
  for _, item in ipairs(items) do
    local kind, epoch, lane, sequence = string.sub(item, 1, 1), nil, nil, nil
    if kind == 'p' then
      epoch, lane, sequence = string.match(item, '^p(%x+) (%l) (%d+)$')
    elseif kind == 'c' then
      epoch, lane, sequence = named(m, item)
    end
    if epoch then
      local is = sequence and state(m, epoch, lane, tonumber(sequence)) == 'a'
      answers[#answers + 1] = is and 1 or 0
    end
  end
  return answers
end

-- The entry at a position that was sent, if that epoch owns it.
local function sent_entry(m, epoch, lane, sequence)
  if sequence > m['s' .. lane] or owner(m, lane, sequence) ~= epoch then return nil end
  return range(m, lane, sequence, sequence, 1)[1]
end

-- Charges an attempt; the entry is sent again after the delay, or buried if it was the last.
local function end_attempt(m, item)
  whole(m)
  local epoch, lane, sequence, number, delay = string.match(item, '^n(%x+) (%l) (%d+) (%d+) (%d+)$')
  sequence, number = tonumber(sequence), tonumber(number)
  local entry, place = sent_entry(m, epoch, lane, sequence), lane .. sequence
  if not entry or attempt(m, place) ~= number or waiting(m)[place] then return end
  if number >= @ATTEMPTS then return bury(m, lane, entry, USED_UP) end
  local time = NOW + math.min(tonumber(delay), @NACK_DELAY)
  put(m, 'na', m.na + call('HSET', m.base .. 'a', place, number + 1))
  if m.nt > 0 then put(m, 'nt', m.nt - call('HDEL', m.base .. 't', place)) end
  put(m, 'nw', m.nw + call('ZADD', m.base .. 'w', time, place))
  m.waits[place] = time
  due_by(m, time)
end

local function reject(m, item)
  local epoch, lane, sequence, reason = string.match(item, '^r(%x+) (%l) (%d+) (.*)$')
  local entry = sent_entry(m, epoch, lane, tonumber(sequence))
  if entry then bury(m, lane, entry, reason) end
end

local function settle(m, session, fence, gap_mark, items)
  for _, item in ipairs(items) do
    local kind = string.sub(item, 1, 1)
    if kind == 'a' then
      local epoch, lane, from, to = string.match(item, '^a(%x+) (%l) (%d+) (%d+)$')
      acknowledge(m, epoch, lane, tonumber(from), tonumber(to))
    elseif kind == 'i' then
      acknowledge_id(m, item)
    end
  end
  if gap_mark <= m.xh and gap_mark > m.gm then put(m, 'gm', gap_mark) end
  local held = holder(m)
  if not (held and held.session == session and held.fence == fence) then return true end
  for _, item in ipairs(items) do
    local kind = string.sub(item, 1, 1)
    if kind == 'n' then end_attempt(m, item) elseif kind == 'r' then reject(m, item) end
  end
  return false
end

local PATH = {
  'hd', 'ep', 'n', 'b', 'ka', 'ne', 'nw', 'na', 'nt', 'rn', 'ro', 'xh', 'gm',
  'hc', 'hh', 'hn', 'hl', 'sc', 'sh', 'sn', 'sl',
}
local PATH_TEXTS = 2

local at, answers = 1, {}
while at < #ARGV do
  local k, session, fence, gap_mark = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local items = {}
  for i = 1, tonumber(ARGV[at + 4]) do items[i] = ARGV[at + 4 + i] end
  at = at + 5 + #items
  local m = load(k, PATH, PATH_TEXTS)
  local before = m.ka
  m.took = {}
  local done, fenced = pcall(settle, m, session, fence, gap_mark, items)
  save(m)
  if done then
    table.insert(answers, {
      m.ka - before, fenced and 1 or 0, heads(m), m.buried or 0, m.took, confirm(m, items),
    })
  else
    table.insert(answers, type(fenced) == 'table' and fenced.err or tostring(fenced))
  end
end
return answers

-- Accepts messages (rules 1, 2 and 14).
-- ARGV: fresh epoch, incarnations gone, draining (each between spaces), then for each mailbox its name and the number
-- of its runs; a run is messages with the same options: options, their number, and for each of them meta and data.
-- Options: lane, time to live, then own|cap, then `#` if messages have ids of their callers', each followed by id and
-- digest, then `!` if offline means refused, then caps unless they are the usual ones: entries, bytes, `+` if the
-- oldest makes room.
-- Answers for each mailbox: epoch, live holder or '', then one text for each message.
local FRESH, GONE, DRAINING = ARGV[1], ARGV[2], ARGV[3]
local ALIVE = incarnation()
local ORDER = {c = 1, h = 2, n = 3, l = 4}

-- Lets the oldest that are not in flight go, of the lowest lane that has one; all or nothing.
local function make_room(m, lane, size, most, bytes)
  whole(m)
  local count, used = m.n, m.b
  local function fits() return count < most and used + size <= bytes end
  local victims = {}
  local chosen = 0
  for i = #LANES, ORDER[lane], -1 do
    local of, list = LANES[i], {}
    local from = m.hd ~= '' and m.nw == 0 and m['s' .. of] + 1 or '-'
    for entry in each(m, of, from) do
      if chosen == @EVICTIONS or fits() then break end
      if not in_flight(m, of, entry.s) then
        count, used, chosen = count - 1, used - #entry.d, chosen + 1
        table.insert(list, entry)
      end
    end
    table.insert(victims, {of, list})
  end
  if not fits() then return false end
  for _, victim in ipairs(victims) do remove(m, victim[1], victim[2], 'overflowed') end
  return true
end

-- The answer to an id that is known, or nil.
local function repeated(m, id, digest)
  local known = call('HGET', m.base .. 'd', id)
  if not known then return nil end
  local of, sequence, content = string.match(known, '^(%l) (%d+) (%x+)$')
  if content ~= digest then return 'R' end
  whole(m)
  local epoch = owner(m, of, tonumber(sequence))
  return 'D' .. of .. ' ' .. sequence .. ' ' .. epoch .. ' ' .. state(m, epoch, of, tonumber(sequence))
end

-- Appends a run; answers where the arguments go on. This is the path of every message: what is the same for all of
-- them is worked out once, and fields are written once.
local function run(m, live, at, answer)
  local lane, ttl, kind, named, fail, caps = string.match(ARGV[at], '^(%l)(%d+) (%l+)(#?)(!?)(.*)$')
  local count, width = tonumber(ARGV[at + 1]), named == '' and 2 or 4
  at = at + 2
  local entries, bytes, replace = @MAILBOX_ENTRIES, @MAILBOX_BYTES, false
  if caps ~= '' then
    local e, b, r = string.match(caps, '^ (%d+) (%d+)(%+?)$')
    entries, bytes, replace = tonumber(e), tonumber(b), r == '+'
  end
  local head_field, sent_field, key = 'h' .. lane, 's' .. lane, m.base .. 'l' .. lane
  if not m[head_field] then fetch(m, {head_field, sent_field}, 0) end
  local expires = NOW + ttl
  local about = NOW .. ' ' .. expires .. ' ' .. kind .. ' '
  local takes = live and not string.find(DRAINING, ' ' .. live.incarnation .. ' ', 1, true)
  local window = takes and live.entries + (lane == 'c' and @CRITICAL_EXTRA or 0)
  local accepted = 0
  for i = 0, count - 1 do
    local meta, data, id = ARGV[at + i * width], ARGV[at + i * width + 1], nil
    local outcome
    if m.rn > 0 then forget_ids(m) end
    if width == 4 then
      id = ARGV[at + i * width + 2]
      outcome = repeated(m, id, ARGV[at + i * width + 3])
    end
    if not outcome and fail == '!' and not live then outcome = 'O' end
    if not outcome and (m.n >= entries or m.b + #data > bytes)
      and not (replace and make_room(m, lane, #data, entries, bytes)) then
      outcome = 'F'
    end
    if not outcome then
      local sequence, added = m[head_field] + 1, nil
      if id then
        added = redis.pcall('XADD', key, sequence .. '-0', 'm', about .. meta, 'd', data, 'i', id)
      else
        added = redis.pcall('XADD', key, sequence .. '-0', 'm', about .. meta, 'd', data)
      end
      if type(added) == 'table' then
        outcome = '!' .. added.err
      else
        -- From here on the entry is accepted; what follows cannot fail but for keys of a wrong type.
        local push = takes and m[sent_field] == m[head_field] and m.n < window and m.b + #data <= live.bytes
        m[head_field], m.n, m.b, accepted = sequence, m.n + 1, m.b + #data, accepted + 1
        if push then m[sent_field] = sequence end
        if id then call('HSET', m.base .. 'd', id, lane .. ' ' .. sequence .. ' ' .. ARGV[at + i * width + 3]) end
        if kind == 'own' then put(m, 'ne', m.ne + call('ZADD', m.base .. 'e', expires, lane .. sequence)) end
        outcome = (push and 'P' or 'B') .. lane .. sequence
      end
    end
    answer[#answer + 1] = outcome
  end
  if accepted > 0 then
    put(m, head_field, m[head_field])
    put(m, sent_field, m[sent_field])
    put(m, 'n', m.n)
    put(m, 'b', m.b)
    due_by(m, expires)
  end
  return at + count * width
end

-- With the lane of the first run; others are fetched when a batch comes to them.
local PATH = {'run', 'e', 'hd', 'due', 'n', 'b', 'ne', 'rn', 'ro'}
local PATH_TEXTS = 3

local at, answers = 4, {}
while at < #ARGV do
  local k, runs = ARGV[at], tonumber(ARGV[at + 1])
  at = at + 2
  local first = string.sub(ARGV[at], 1, 1)
  PATH[10], PATH[11] = 'h' .. first, 's' .. first
  local m = load(k, PATH, PATH_TEXTS)
  ensure_epoch(m, FRESH, ALIVE)
  local live = m.hd ~= '' and holder(m) or nil
  if live and string.find(GONE, ' ' .. live.incarnation .. ' ', 1, true) then live = nil end
  local answer = {m.e, live and m.hd or ''}
  for _ = 1, runs do at = run(m, live, at, answer) end
  save(m)
  answers[#answers + 1] = answer
end
return answers

-- Accepts messages (rules 1, 2 and 14).
-- ARGV: fresh epoch, incarnations gone, draining (each between spaces), then for each mailbox its name and the number
-- of its messages, and for each of these: options, meta, data, and with an id of the caller's also id and digest.
-- Options: lane, time to live, then own|cap, then `!` if offline means refused, then caps unless they are the usual
-- ones: entries, bytes, `+` if the oldest makes room.
-- Answers for each mailbox: epoch, live holder or '', then one text for each message.
local FRESH, GONE, DRAINING = ARGV[1], ARGV[2], ARGV[3]
local ALIVE = incarnation()
local ORDER = {c = 1, h = 2, n = 3, l = 4}

local function make_room(m, lane, size, most, bytes, replace)
  local count, used = m.n, m.b
  local function fits() return count < most and used + size <= bytes end
  if fits() then return true end
  if not replace then return false end
  whole(m)
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

local function step(m, live, options, meta, data, id, digest)
  local lane, ttl, kind, fail, caps = string.match(options, '^(%l)(%d+) (%l+)(!?)(.*)$')
  forget_ids(m)
  if id then
    local known = call('HGET', m.base .. 'd', id)
    if known then
      local of, sequence, content = string.match(known, '^(%l) (%d+) (%x+)$')
      if content ~= digest then return 'R' end
      whole(m)
      local epoch = owner(m, of, tonumber(sequence))
      return 'D' .. of .. ' ' .. sequence .. ' ' .. epoch .. ' ' .. state(m, epoch, of, tonumber(sequence))
    end
  end
  if fail == '!' and not live then return 'O' end
  local entries, bytes, replace = @MAILBOX_ENTRIES, @MAILBOX_BYTES, false
  if caps ~= '' then
    local e, b, r = string.match(caps, '^ (%d+) (%d+)(%+?)$')
    entries, bytes, replace = tonumber(e), tonumber(b), r == '+'
  end
  if not make_room(m, lane, #data, entries, bytes, replace) then return 'F' end

  local head, sent = 'h' .. lane, 's' .. lane
  if not m[head] then fetch(m, {head, sent}, 0) end
  local sequence, expires = m[head] + 1, NOW + ttl
  local about = NOW .. ' ' .. expires .. ' ' .. kind .. ' ' .. meta
  if id then
    call('XADD', m.base .. 'l' .. lane, sequence .. '-0', 'm', about, 'd', data, 'i', id)
  else
    call('XADD', m.base .. 'l' .. lane, sequence .. '-0', 'm', about, 'd', data)
  end
  -- From here on the entry is accepted; what follows cannot fail but for keys of a wrong type.
  local at_head = m[sent] == m[head]
  put(m, head, sequence)
  put(m, 'n', m.n + 1)
  put(m, 'b', m.b + #data)
  due_by(m, expires)
  local push = at_head and live and not string.find(DRAINING, ' ' .. live.incarnation .. ' ', 1, true)
    and m.n <= live.entries + (lane == 'c' and @CRITICAL_EXTRA or 0) and m.b <= live.bytes
  if push then put(m, sent, sequence) end
  if id then call('HSET', m.base .. 'd', id, lane .. ' ' .. sequence .. ' ' .. digest) end
  if kind == 'own' then put(m, 'ne', m.ne + call('ZADD', m.base .. 'e', expires, lane .. sequence)) end
  return (push and 'P' or 'B') .. lane .. sequence
end

-- With the first lane; a batch for several lanes fetches the others when it comes to them.
local PATH = {'run', 'e', 'hd', 'due', 'n', 'b', 'ne', 'rn', 'ro'}
local PATH_TEXTS = 3

local at, answers = 4, {}
while at < #ARGV do
  local k, count = ARGV[at], tonumber(ARGV[at + 1])
  at = at + 2
  local first = string.match(ARGV[at], '%l')
  PATH[10], PATH[11] = 'h' .. first, 's' .. first
  local m = load(k, PATH, PATH_TEXTS)
  ensure_epoch(m, FRESH, ALIVE)
  local live = holder(m)
  if live and string.find(GONE, ' ' .. live.incarnation .. ' ', 1, true) then live = nil end
  local answer = {m.e, live and m.hd or ''}
  for _ = 1, count do
    local options, id, digest = ARGV[at], nil, nil
    local meta, data = ARGV[at + 1], ARGV[at + 2]
    at = at + 3
    if string.sub(options, 1, 1) == '#' then
      options, id, digest = string.sub(options, 2), ARGV[at], ARGV[at + 1]
      at = at + 2
    end
    -- A mailbox that something else has damaged answers for itself; the others of the batch are not harmed.
    local done, outcome = pcall(step, m, live, options, meta, data, id, digest)
    if not done then outcome = '!' .. (type(outcome) == 'table' and outcome.err or tostring(outcome)) end
    table.insert(answer, outcome)
  end
  save(m)
  table.insert(answers, answer)
end
return answers

-- Opens a session. ARGV: request, fresh epoch, end of the gateway's lease. Answers JSON.
local q = cjson.decode(ARGV[1])
if tonumber(ARGV[3]) <= NOW then return cjson.encode({refused = 'expired'}) end
local liveness = {gone = set_of(q.gone), draining = set_of(q.draining)}
local m = load(q.mailbox)
ensure_epoch(m, ARGV[2], incarnation())
expire(m)
load_sessions(m)
end_sessions_of_the_gone(m, liveness)

local function last_owned(epoch, lane)
  local all = epochs(m)
  for i, one in ipairs(all) do
    if one.e == epoch then return all[i + 1] and all[i + 1][lane] - 1 or m['h' .. lane] end
  end
  return 0
end

-- Rule 12.
local function judge(resume)
  if not resume then return 'fresh' end
  for i, lane in ipairs(LANES) do
    if resume.positions[i] > last_owned(resume.epoch, lane) then return 'lost' end
  end
  return resume.epoch == m.e and 'resumed' or 'restarted'
end

local function identity(session)
  return session.instance and 'i:' .. session.instance or 'l:' .. session.login
end

-- Notes that `new` takes the place of `old`; answers whether the two keep doing so.
local function keeps_displacing(id, old, new)
  local daemon = load_daemon(m, id)
  local displaced, back, before = {}, {}, false
  for _, one in ipairs(daemon.displaced or {}) do
    if NOW - one[1] < @DISPLACEMENT_PERIOD then table.insert(displaced, one) end
  end
  for _, time in ipairs(daemon.back or {}) do
    if NOW - time < @DISPLACEMENT_PERIOD then table.insert(back, time) end
  end
  if old ~= new then
    for _, one in ipairs(displaced) do before = before or one[2] == new end
    if before then table.insert(back, NOW) end
    table.insert(displaced, {NOW, old})
  end
  daemon.displaced, daemon.back = displaced, back
  save_daemon(m, id, daemon)
  return old ~= new and #back >= @DISPLACEMENTS
end

-- Keeps what is known of the most recently used daemons.
local function forget_daemons()
  local connected = {}
  for _, session in ipairs(m.sessions) do connected[session.daemon] = true end
  local all, idle, count = call('HGETALL', m.base .. 'u'), {}, 0
  for i = 1, #all, 2 do
    local used = cjson.decode(all[i + 1]).used
    if not connected[all[i]] and NOW - used >= @TIME_TO_LIVE then
      call('HDEL', m.base .. 'u', all[i])
    else
      count = count + 1
      if not connected[all[i]] then table.insert(idle, {used, all[i]}) end
    end
  end
  table.sort(idle, function(a, b) return a[1] < b[1] or a[1] == b[1] and a[2] < b[2] end)
  for i = 1, math.min(count - @DAEMONS, #idle) do call('HDEL', m.base .. 'u', idle[i][2]) end
end

local verdict = judge(q.resume)
local new = q.session
local answer = {verdict = verdict}

local function opened()
  local held = holder(m)
  if held and held.session == new.id then answer.activation = activation(m) end
  answer.subscriptions = load_daemon(m, new.daemon).subscriptions
  call('HSET', 'ses:' .. TAG, new.id, m.k)
  call('SADD', 'inc:' .. TAG .. ':' .. new.incarnation, m.k)
  save(m)
  return cjson.encode(answer)
end

local _, known = find_session(m, new.id)
if known then
  answer.born = known.born
  return opened()
end
for _, other in ipairs(m.sessions) do
  if other.daemon == new.daemon and q.born and other.born > q.born then
    save(m)
    return cjson.encode({refused = 'superseded'})
  end
end
new.born = q.born or m.bo + 1
answer.born = new.born
put(m, 'bo', math.max(m.bo, new.born))

local old, thrashing = {}, false
for _, session in ipairs(m.sessions) do
  if session.daemon == new.daemon then table.insert(old, session) end
end
for _, session in ipairs(old) do
  if keeps_displacing(new.daemon, identity(session), identity(new)) then thrashing = true end
  remove_session(m, session.id, liveness.draining[session.incarnation] or false)
end
if #old > 0 then
  answer.displaced = {}
  for i, session in ipairs(old) do
    answer.displaced[i] = {session = session.id, incarnation = session.incarnation, address = session.address}
  end
end
if thrashing then
  note_end(m, false)
  answer.refused = 'duplicate'
elseif #m.sessions >= q.most then
  answer.refused = 'full'
end
if answer.refused then
  save(m)
  return cjson.encode(answer)
end

put(m, 'en', '')
if #m.sessions == 0 then put(m, 'on', NOW) end
put(m, 'so', m.so + 1)
new.ordinal, new.opened, new.idle = m.so, NOW, 0
table.insert(m.sessions, new)
save_session(m, new)
presence_may_change(m)
local daemon = load_daemon(m, new.daemon)
daemon.used = NOW
daemon.subscriptions = q.subscriptions or daemon.subscriptions
save_daemon(m, new.daemon, daemon)
forget_daemons()
local only = reserved_for(m)
if m.hd == '' and is_eligible(new, liveness) and (not only or only == new.daemon) then activate(m, new) end
return opened()

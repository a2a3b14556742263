-- Sessions and the one among them that holds the mailbox (rules 8, 9 and 12). `s` holds sessions, `u` what outlives
-- those of a daemon, both as JSON; `ses:{p}` leads from a session to its mailbox, `inc:{p}:<incarnation>` lists the
-- mailboxes in which an incarnation holds sessions.

local function set_of(list)
  local set = {}
  for _, name in ipairs(list or {}) do set[name] = true end
  return set
end

local function load_sessions(m)
  m.sessions = {}
  local all = call('HGETALL', m.base .. 's')
  for i = 2, #all, 2 do table.insert(m.sessions, cjson.decode(all[i])) end
  table.sort(m.sessions, function(a, b) return a.ordinal < b.ordinal end)
end

local function save_session(m, session)
  call('HSET', m.base .. 's', session.id, cjson.encode(session))
end

local function find_session(m, id)
  for i, session in ipairs(m.sessions) do
    if session.id == id then return i, session end
  end
end

local function load_daemon(m, id)
  local known = call('HGET', m.base .. 'u', id)
  return known and cjson.decode(known) or {used = 0}
end

local function save_daemon(m, id, daemon)
  call('HSET', m.base .. 'u', id, cjson.encode(daemon))
end

local function is_eligible(session, liveness)
  return session.reads and session.status ~= 'paused'
    and not liveness.gone[session.incarnation] and not liveness.draining[session.incarnation]
end

-- Nobody holds the mailbox: nothing is in flight, so what has expired may go.
local function release(m)
  put(m, 'hd', '')
  due_by(m, NOW)
end

-- Takes a session out; the role is then free.
local function remove_session(m, id, drained)
  local index, session = find_session(m, id)
  if not index then return false end
  table.remove(m.sessions, index)
  call('HDEL', m.base .. 's', id)
  call('HDEL', 'ses:' .. TAG, id)
  local others = false
  for _, other in ipairs(m.sessions) do others = others or other.incarnation == session.incarnation end
  if not others then call('SREM', 'inc:' .. TAG .. ':' .. session.incarnation, m.k) end
  local daemon = load_daemon(m, session.daemon)
  daemon.used = NOW
  save_daemon(m, session.daemon, daemon)
  local held = holder(m)
  if held and held.session == id then
    release(m)
    if drained then put(m, 'rv', (NOW + @DRAIN_RESERVATION) .. ' ' .. session.daemon) end
    put(m, 'lh', cjson.encode({daemon = session.daemon, instance = session.instance, drained = drained}))
  end
  return true
end

-- When it counts as offline, if no session lives.
local function offline_at(m)
  local at, goodbye = string.match(m.en, '^(%d+) (%d)$')
  return at and tonumber(at) + (goodbye == '1' and 0 or @RECONNECTING)
end

-- Sessions have begun or ended.
local function presence_may_change(m)
  local offline = offline_at(m)
  if m.po == 0 and not offline then due_by(m, NOW) end
  if m.po == 1 and offline then due_by(m, offline) end
end

local function note_end(m, goodbye)
  if #m.sessions > 0 then return end
  put(m, 'en', NOW .. ' ' .. (goodbye and 1 or 0))
  presence_may_change(m)
end

local function end_sessions_of_the_gone(m, liveness)
  for i = #m.sessions, 1, -1 do
    if liveness.gone[m.sessions[i].incarnation] then
      remove_session(m, m.sessions[i].id, false)
      note_end(m, false)
    end
  end
end

-- What the last holder may have died of is charged when another one takes over.
local function charge_oldest(m)
  for _, lane in ipairs(LANES) do
    local oldest
    for entry in each(m, lane, '-') do
      if entry.s > m['s' .. lane] then break end
      if not waiting(m)[lane .. entry.s] then
        oldest = entry
        break
      end
    end
    if oldest then
      local place = lane .. oldest.s
      local number = attempt(m, place)
      if number >= @ATTEMPTS then
        bury(m, lane, oldest, USED_UP)
      else
        put(m, 'na', m.na + call('HSET', m.base .. 'a', place, number + 1))
      end
    end
  end
end

local function activate(m, session)
  expire(m)
  if m.lh ~= '' then
    local last = cjson.decode(m.lh)
    put(m, 'lh', '')
    local instances = last.instance and session.instance and last.instance ~= session.instance
    if (last.daemon ~= session.daemon or instances) and not last.drained then charge_oldest(m) end
  end
  if m.rv ~= '' then put(m, 'rv', '') end
  put(m, 'mk', table.concat({m.sc, m.sh, m.sn, m.sl}, ' '))
  put(m, 'fe', m.fe + 1)
  local fields = {session.id, m.fe, session.incarnation, session.entries, session.bytes, session.address}
  put(m, 'hd', table.concat(fields, ' '))
end

-- The daemon for which the role is reserved, if it is.
local function reserved_for(m)
  local till, daemon = string.match(m.rv, '^(%d+) (.+)$')
  return till and tonumber(till) > NOW and daemon or nil
end

local function activation(m)
  local c, h, n, l = string.match(m.mk, '^(%d+) (%d+) (%d+) (%d+)$')
  return {
    fence = m.fe, epoch = m.e, marks = {tonumber(c), tonumber(h), tonumber(n), tonumber(l)},
    heads = heads(m), gap_mark = m.gm,
  }
end

local function notice(m)
  return {holder = m.hd, activation = activation(m)}
end

-- The newest eligible session holds the mailbox next, if nobody does.
local function activate_next(m, liveness)
  if m.hd ~= '' then return nil end
  local only = reserved_for(m)
  for i = #m.sessions, 1, -1 do
    local session = m.sessions[i]
    if is_eligible(session, liveness) and (not only or only == session.daemon) then
      activate(m, session)
      return notice(m)
    end
  end
end

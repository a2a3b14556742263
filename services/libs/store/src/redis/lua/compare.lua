-- Heartbeats of many sessions. ARGV: request, fresh epoch. Answers JSON: for each report what is known, or `unknown`; and who holds
-- a mailbox now because another yielded.
local q = cjson.decode(ARGV[1])
local liveness = {gone = set_of(q.gone), draining = set_of(q.draining)}

-- A silent or paused holder yields to another that lives; a session that wakes up may find the role free.
local function yield_or_activate(m, session)
  local held = holder(m)
  if not held then
    load_sessions(m)
    return activate_next(m, liveness)
  end
  local paused = session.status == 'paused'
  if held.session ~= session.id or not (paused or session.idle >= @YIELD_AFTER) then return nil end
  load_sessions(m)
  for i = #m.sessions, 1, -1 do
    local other = m.sessions[i]
    if other.id ~= session.id and is_eligible(other, liveness) and other.idle < @YIELD_AFTER then
      release(m)
      activate(m, other)
      return notice(m)
    end
  end
  if paused then release(m) end
end

local alive = incarnation()
local results, activated = {}, {}
for i, report in ipairs(q.reports) do
  local m = load(report.mailbox)
  local known = call('HGET', m.base .. 's', report.session)
  if known and m.e ~= '' then
    -- Whoever remembers something of another life of the store learns of it here.
    ensure_epoch(m, ARGV[2], alive)
    local session = cjson.decode(known)
    session.idle = report.idle
    session.status = report.status or session.status
    session.metrics = report.metrics or session.metrics
    save_session(m, session)
    local now_active = yield_or_activate(m, session)
    if now_active then table.insert(activated, now_active) end
    local held = holder(m)
    results[i] = {
      heads = heads(m), epoch = m.e,
      activation = held and held.session == session.id and activation(m) or nil,
    }
    save(m)
  else
    results[i] = {unknown = true}
  end
end
return cjson.encode({results = results, activated = #activated > 0 and activated or nil})

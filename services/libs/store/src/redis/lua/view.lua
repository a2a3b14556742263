-- A mailbox with its sessions as JSON, or '' if nobody ever used it. ARGV: mailbox.
local m = load(ARGV[1])
if m.e == '' then return '' end
load_sessions(m)
local depths, oldest = {}, nil
for i, lane in ipairs(LANES) do
  depths[i] = call('XLEN', m.base .. 'l' .. lane)
  local first = range(m, lane, '-', '+', 1)[1]
  local accepted = first and tonumber(string.match(first.m, '^%d+'))
  if accepted and (not oldest or accepted < oldest) then oldest = accepted end
end
for _, session in ipairs(m.sessions) do
  session.subscriptions = load_daemon(m, session.daemon).subscriptions
end
local held = holder(m)
return cjson.encode({
  epoch = m.e, heads = {m.hc, m.hh, m.hn, m.hl}, depths = depths, bytes = m.b, dead_letters = m.qn, oldest = oldest,
  counters = {m.ka, m.ke, m.kd, m.ko, m.kp}, holder = held and held.session or nil, holder_text = m.hd,
  heads_now = heads(m),
  sessions = #m.sessions > 0 and m.sessions or nil, ended = m.en, moment = NOW,
})

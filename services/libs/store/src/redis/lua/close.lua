-- Ends a session. ARGV: request. Answers who holds the mailbox now as JSON, or ''.
local q = cjson.decode(ARGV[1])
local m = load(q.mailbox)
load_sessions(m)
if not remove_session(m, q.session, q.drained) then return '' end
note_end(m, q.goodbye)
local now_active = activate_next(m, {gone = set_of(q.gone), draining = set_of(q.draining)})
save(m)
return now_active and cjson.encode(now_active) or ''

-- Replaces the subscriptions of a session's daemon. ARGV: mailbox, session, subscriptions. Answers 1, or 0 if unknown.
local m = load(ARGV[1])
local known = call('HGET', m.base .. 's', ARGV[2])
if not known then return 0 end
local id = cjson.decode(known).daemon
local daemon = load_daemon(m, id)
daemon.subscriptions = ARGV[3]
save_daemon(m, id, daemon)
return 1

-- Continues a chain of audit events. ARGV: chain, last sequence that it must have, then each event. Answers whether it
-- had it.
local key = BASE .. 'audit:' .. ARGV[1]
local last = call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
local at = last and tonumber(string.match(last[1], '^%d+')) or 0
if at ~= tonumber(ARGV[2]) then return 0 end
for n = 3, #ARGV - 1 do call('XADD', key, string.format('%d-0', at + n - 2), 'v', ARGV[n]) end
call('XTRIM', key, 'MAXLEN', @AUDIT_EVENTS)
return 1

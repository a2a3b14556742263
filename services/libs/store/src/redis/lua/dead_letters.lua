-- Dead letters, oldest first. ARGV: mailbox, number after which they are wanted, how many.
-- Answers for each its number, what `bury` says about it, data, id, meta and reason.
local m = load(ARGV[1])
local found = {}
for i, raw in ipairs(call('XRANGE', m.base .. 'q', ARGV[2] + 1, '+', 'COUNT', ARGV[3])) do
  local fields = raw[2]
  found[i] = {tonumber(string.match(raw[1], '^%d+')), fields[2], fields[4], fields[6], fields[8], fields[10]}
end
return found

-- Drops dead letters. ARGV: mailbox, their numbers, `now`. Answers how many were there.
local m = load(ARGV[1])
local key, forgotten = m.base .. 'q', 0
for i = 2, #ARGV - 1 do
  local letter = call('XRANGE', key, ARGV[i], ARGV[i])[1]
  if letter then
    call('XDEL', key, letter[1])
    put(m, 'qn', m.qn - 1)
    put(m, 'qb', m.qb - #letter[2][4])
    forgotten = forgotten + 1
  end
end
save(m)
return forgotten

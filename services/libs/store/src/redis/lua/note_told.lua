-- Notes what subscribers have been told. ARGV: mailbox, 1 online, 0 offline or '', last dead letter. Answers 1.
local m = load(ARGV[1])
if m.e == '' then return 1 end
if ARGV[2] ~= '' then put(m, 'po', tonumber(ARGV[2])) end
put(m, 'qt', math.max(m.qt, tonumber(ARGV[3])))
save(m)
return 1

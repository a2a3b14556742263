-- Removes every entry. ARGV: mailbox. Answers how many.
local m = load(ARGV[1])
local purged = 0
for _, lane in ipairs(LANES) do
  repeat
    local list = range(m, lane, '-', '+', 100)
    purged = purged + remove(m, lane, list, 'purged')
  until #list == 0
end
save(m)
return purged

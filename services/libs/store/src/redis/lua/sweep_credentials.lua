-- Forgets revocations that have no effect any more; answers how many.
local forgotten = 0
for _, one in ipairs(call('XRANGE', BASE .. 'log', '-', '+', 'COUNT', 100)) do
  if NOW - one[2][4] <= @REVOCATION_AGE then break end
  forgotten = forgotten + call('XDEL', BASE .. 'log', one[1])
end
return forgotten

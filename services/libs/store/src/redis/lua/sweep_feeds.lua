-- Lets go what is too old. Answers how many events.
local before = 0
for _, organization in ipairs(call('ZRANGEBYSCORE', DUE, '-inf', '(' .. NOW)) do
  local f = load_feed(organization)
  local kept = f.fl
  local due = nil
  while not due and f.hd > f.fl do
    local first, old = oldest(f, 64), {}
    for _, entry in ipairs(first) do
      if NOW - time_of(entry) > f.ag then
        old[#old + 1] = entry
      else
        due = time_of(entry) + f.ag
        break
      end
    end
    forget(f, old)
    if #first == 0 then break end
  end
  call('HSET', f.base .. 'h', 'fl', f.fl, 'b', f.b)
  if due then call('ZADD', DUE, due, organization) else call('ZREM', DUE, organization) end
  before = before + f.fl - kept
end
return before

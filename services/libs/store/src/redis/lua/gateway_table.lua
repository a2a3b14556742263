-- All gateways. KEYS[2] is the store's meta hash. Answers the partition count, the moment, and for each gateway its
-- incarnation, end of lease, 1 if draining, and address.
local answer = {tonumber(call('HGET', KEYS[2], 'partitions') or 0), NOW}
local all = call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local ends, draining, address = lease(all[i + 1])
  table.insert(answer, {all[i], ends, tonumber(draining), address})
end
return answer

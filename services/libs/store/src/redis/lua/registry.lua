-- What has changed in a registry. ARGV: organization, version after which. Answers the version, then id, registration or
-- '', taken slots, what it said last or '' and what was told of it or '' of each. A version that has not been yet: the store
-- has lost something, and all is told.
local base, after = base_of(ARGV[1]), tonumber(ARGV[2])
local version = tonumber(call('GET', base .. 'n') or 0)
if after > version then after = 0 end
local answer = {version}
for _, id in ipairs(call('ZRANGEBYSCORE', base .. 'v', '(' .. after, '+inf')) do
  local registered = call('HGET', base .. 'o', id)
  if registered or after > 0 then
    answer[#answer + 1] = {id, registered or '', call('SCARD', base .. 'h:' .. id),
      call('HGET', base .. 's', id) or '', call('HGET', base .. 't', id) or ''}
  end
end
return answer

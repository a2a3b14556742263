-- Presents refresh token number ARGV[2] of login ARGV[1]. ARGV: also how long a login is kept, and the entry of the
-- log for the case that the token is reused. Answers what, record, counter, rotation.
local key, known = BASE .. 'login:' .. ARGV[1], login(ARGV[1])
if not known then return {'unknown'} end
if known.ended then return {'revoked'} end
local presented = tonumber(ARGV[2])
if presented == known.counter then
  if not cjson.decode(known.record).stable then known.counter = known.counter + 1 end
  known.rotated = NOW
  call('HSET', key, 'counter', known.counter, 'rotated', NOW)
  call('PEXPIRE', key, ARGV[3])
  return {'valid', known.record, known.counter, known.rotated}
end
-- Two requests of one client raced, or the first answer was lost: the same successor again.
if presented + 1 == known.counter and NOW - known.rotated <= @REFRESH_GRACE then
  return {'valid', known.record, known.counter, known.rotated}
end
local organization = cjson.decode(known.record).organization
revoke(cjson.encode({organization = organization, revoked = {Login = ARGV[1]}}), '', ARGV[1])
return {'reused'}

-- Forgets a gateway without sessions whose lease has ended. ARGV: incarnation. Answers how many were forgotten.
local known = call('HGET', KEYS[1], ARGV[1])
if not known or lease(known) > NOW then return 0 end
return call('HDEL', KEYS[1], ARGV[1])

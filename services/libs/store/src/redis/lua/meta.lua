-- What all processes of a deployment must agree on. KEYS[1] is the store's meta hash. ARGV: partition count.
-- Answers the count in force: the first one stays.
call('HSETNX', KEYS[1], 'partitions', ARGV[1])
return tonumber(call('HGET', KEYS[1], 'partitions'))

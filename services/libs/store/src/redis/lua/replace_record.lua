-- Replaces a record or makes it. ARGV: kind, id, record, organization that must exist. Answers 1, or 0 if it does not.
if call('HEXISTS', BASE .. 'organizations', ARGV[4]) == 0 then return 0 end
call('HSET', BASE .. ARGV[1], ARGV[2], ARGV[3])
return 1

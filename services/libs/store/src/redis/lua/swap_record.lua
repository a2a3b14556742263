-- Replaces a record that nobody has changed since it was read. ARGV: kind, id, record that was read or '', record.
-- Answers whether it did.
if (call('HGET', BASE .. ARGV[1], ARGV[2]) or '') ~= ARGV[3] then return 0 end
call('HSET', BASE .. ARGV[1], ARGV[2], ARGV[4])
return 1

-- A record, 1 if it has been revoked, and the moment. ARGV: kind, id.
local record = call('HGET', BASE .. ARGV[1], ARGV[2])
if not record then return {'', 0, NOW} end
return {record, is_revoked(ARGV[1], ARGV[2]) and 1 or 0, NOW}

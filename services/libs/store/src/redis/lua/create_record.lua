-- Makes a record. ARGV: kind, id, record, organization that must exist or ''.
-- Answers 1, 0 if one of that id has other content, 2 if the organization is not there.
local kind, id, record, parent = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if parent ~= '' and call('HEXISTS', BASE .. 'organizations', parent) == 0 then return 2 end
if call('HSETNX', BASE .. kind, id, record) == 1 then return 1 end
if is_revoked(kind, id) then return 0 end
return call('HGET', BASE .. kind, id) == record and 1 or 0

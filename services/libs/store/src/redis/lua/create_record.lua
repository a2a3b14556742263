-- Makes a record. ARGV: kind, id, record, organization that must exist or '', name in the organization's list or ''.
-- Answers 1, 0 if one of that id has other content, 2 if the organization is not there.
local kind, id, record, parent, member = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if parent ~= '' and call('HEXISTS', BASE .. 'organizations', parent) == 0 then return 2 end
if call('HSETNX', BASE .. kind, id, record) == 1 then
  if member ~= '' then
    call('ZADD', BASE .. 'list:' .. kind .. ':' .. parent, 0, member)
    call('HSETNX', BASE .. 'created', id, NOW)
  end
  return 1
end
if is_revoked(kind, id) then return 0 end
return call('HGET', BASE .. kind, id) == record and 1 or 0

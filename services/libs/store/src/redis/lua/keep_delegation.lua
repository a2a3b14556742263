-- Keeps a delegation. ARGV: organization, id, version it was made from, holder of a slot or '', when it is due, its place in
-- the order, JSON; then entries of its context, each a name and version, a space and JSON. Answers the new version, 0 if it
-- was another version, or -1 if the holder has no slot.
local function keep()
  local base, id, holder = base_of(ARGV[1]), ARGV[2], ARGV[4]
  local key = base .. 'd:' .. id
  local known = call('HMGET', key, 'v', 'h')
  local version, before = tonumber(known[1] or 0), known[2] or ''
  if version ~= tonumber(ARGV[3]) then return 0 end
  if before ~= holder then
    if holder ~= '' and not has_slot(base, holder) then return -1 end
    if before ~= '' then release(base, before, id) end
    if holder ~= '' then
      call('SADD', base .. 'h:' .. holder, id)
      touch(base, holder)
    end
  end
  call('HSET', key, 'v', version + 1, 'h', holder, 'l', ARGV[6], 'j', ARGV[7])
  for i = 8, #ARGV - 1, 2 do call('HSET', base .. 'c:' .. id, ARGV[i], ARGV[i + 1]) end
  call('ZADD', base .. 'l', 0, ARGV[6])
  call('ZADD', DUE, ARGV[5], ARGV[1] .. '/' .. id)
  return version + 1
end

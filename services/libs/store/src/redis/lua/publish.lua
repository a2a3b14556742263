-- Publishes events of one organization (rule 17). ARGV: organization, fresh epoch, how much is kept (events, bytes, age),
-- incarnations that are gone (between spaces), then for each event meta, data, publisher's id and digest, both '' if
-- there is none. Answers epoch, moment, one text for each event, and the interested gateways with their addresses.
local f = load_feed(ARGV[1])
local EVENTS, BYTES, AGE, GONE = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]

-- Rule 11: an epoch begins if the store is not the one that was seen last.
local function ensure_epoch(alive)
  if f.run == alive then return end
  local lines = {}
  for line in string.gmatch(f.ep, '[^;]+') do lines[#lines + 1] = line end
  lines[#lines + 1] = ARGV[2] .. ' ' .. f.hd + 1
  if #lines > @EPOCHS then table.remove(lines, 1) end
  f.run, f.e, f.ep = alive, ARGV[2], table.concat(lines, ';')
end

-- The epoch that owns a sequence. What is older than all that are remembered belongs to the oldest.
local function owner(sequence)
  local found
  for epoch, first in string.gmatch(f.ep, '(%x+) (%d+)') do
    if not found or tonumber(first) <= sequence then found = epoch end
  end
  return found
end

-- What is known of an id, or nil.
local function repeated(id, digest)
  local known = call('HGET', f.base .. 'd', id)
  if not known then return nil end
  local sequence, content = string.match(known, '^(%d+) (%x+)$')
  if content ~= digest then return 'R' end
  return 'D' .. sequence .. ' ' .. owner(tonumber(sequence))
end

local function make_room(size)
  while f.hd > f.fl do
    local kept = f.hd - f.fl
    if kept < EVENTS and f.b + size <= BYTES then return end
    -- Usually one; more if the feed has to shrink.
    local first = oldest(f, math.min(math.max(kept - EVENTS + 1, 1), 64))
    if #first == 0 then return end
    if kept < EVENTS then first = {first[1]} end
    forget(f, first)
  end
end

local function add(meta, data, id, digest)
  if id ~= '' then
    local answer = repeated(id, digest)
    if answer then return answer end
  end
  make_room(#data)
  local sequence, added = f.hd + 1, nil
  if id ~= '' then
    added = redis.pcall('XADD', f.base .. 'l', sequence .. '-0', 'm', NOW .. ' ' .. meta, 'd', data, 'i', id)
  else
    added = redis.pcall('XADD', f.base .. 'l', sequence .. '-0', 'm', NOW .. ' ' .. meta, 'd', data)
  end
  if type(added) == 'table' and added.err then return '!' .. added.err end
  if f.hd == f.fl then call('ZADD', DUE, NOW + AGE, f.organization) end
  f.hd, f.b = sequence, f.b + #data
  if id ~= '' then call('HSET', f.base .. 'd', id, sequence .. ' ' .. digest) end
  return 'P' .. sequence
end

ensure_epoch(incarnation())
local outcomes = {}
for at = 7, #ARGV - 1, 4 do
  outcomes[#outcomes + 1] = add(ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3])
end
call('HSET', f.base .. 'h', 'run', f.run, 'e', f.e, 'ep', f.ep, 'hd', f.hd, 'fl', f.fl, 'b', f.b, 'ag', AGE)
local interested, all = {}, call('HGETALL', f.base .. 'i')
for i = 1, #all, 2 do
  if string.find(GONE, ' ' .. all[i] .. ' ', 1, true) then
    call('HDEL', f.base .. 'i', all[i])
  else
    interested[#interested + 1], interested[#interested + 2] = all[i], all[i + 1]
  end
end
return {f.e, NOW, outcomes, interested}

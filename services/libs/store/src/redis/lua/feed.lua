-- The feed of an organization, beside the mailboxes of its partition. Keys: `h` fields as below, `l` the log with ids
-- `sequence-0`, `d` publishers' ids of what is kept, `i` interested gateways with their addresses; for the partition
-- `f:{pNNNN}:due` the feeds by the end of their oldest event.
--   run, e, ep   life of the store that was seen last, its epoch, and all epochs with their first sequences
--   hd, fl       last sequence given, last sequence that is not kept any more
--   b, ag        bytes of data that are kept, and how long they are, in milliseconds
local DUE = 'f:' .. TAG .. ':due'

local function load_feed(organization)
  local base = 'f:' .. TAG .. ':' .. organization .. ':'
  local v = call('HMGET', base .. 'h', 'run', 'e', 'ep', 'hd', 'fl', 'b', 'ag')
  return {
    organization = organization, base = base, run = v[1] or '', e = v[2] or '', ep = v[3] or '',
    hd = tonumber(v[4] or 0), fl = tonumber(v[5] or 0), b = tonumber(v[6] or 0), ag = tonumber(v[7] or 0),
  }
end

local function extent(f) return {f.ep, f.hd, f.fl} end

-- Entries from the oldest on, at most so many: sequence, meta, data, id.
local function oldest(f, count) return call('XRANGE', f.base .. 'l', '-', '+', 'COUNT', count) end

local function time_of(entry) return tonumber(string.match(entry[2][2], '^%d+')) end

-- Lets the oldest go that are in `list`, which begins the log.
local function forget(f, list)
  local places, ids = {}, {}
  for i, entry in ipairs(list) do
    places[i] = entry[1]
    f.b = f.b - #entry[2][4]
    if entry[2][6] then ids[#ids + 1] = entry[2][6] end
  end
  if #places == 0 then return end
  call('XDEL', f.base .. 'l', unpack(places))
  if #ids > 0 then call('HDEL', f.base .. 'd', unpack(ids)) end
  f.fl = f.fl + #places
end

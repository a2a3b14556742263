-- Does what has become due in one partition. ARGV: request with the incarnations that are gone and draining, the ends
-- of the leases of those gone, and how many mailboxes to look at. Answers JSON; `left` names incarnations that still
-- have mailboxes here.
local q = cjson.decode(ARGV[1])
local liveness = {gone = set_of(q.gone), draining = set_of(q.draining)}
local handled, activated, grown, left, told = 0, {}, {}, {}, {}

-- What is so and subscribers have not been told, or nil.
local function news(m)
  local offline, presence = offline_at(m), nil
  if m.po == 0 and not offline and m.on > 0 then presence = {1, m.on} end
  if m.po == 1 and offline and offline <= NOW then presence = {0, offline} end
  if not presence and m.qh <= m.qt then return nil end
  return {mailbox = m.k, presence = presence, letters = {m.qt, m.qh}}
end

-- The moment at which a sweep could next change anything; 0: never.
local function reckon_due(m)
  local least = 0
  local function at(time)
    if time and (least == 0 or time < least) then least = time end
  end
  local till = string.match(m.rv, '^(%d+) ')
  if till and tonumber(till) <= NOW then
    put(m, 'rv', '')
  elseif till then
    at(tonumber(till))
  end
  -- A nacked entry that is due already has been told of; it waits for its reader.
  for _, time in pairs(waiting(m)) do
    if time > NOW then at(time) end
  end
  if m.ne > 0 then
    local own = call('ZRANGE', m.base .. 'e', 0, -1, 'WITHSCORES')
    for i = 1, #own, 2 do
      local lane, sequence = string.sub(own[i], 1, 1), tonumber(string.sub(own[i], 2))
      if not in_flight(m, lane, sequence) then
        at(tonumber(own[i + 1]))
        break
      end
    end
  end
  if m.ne < m.n then
    for _, lane in ipairs(LANES) do
      local from = m.hd ~= '' and m.nw == 0 and m['s' .. lane] + 1 or '-'
      for entry in each(m, lane, from) do
        local expires, own = expiry(entry)
        if not own and not in_flight(m, lane, entry.s) then
          at(expires)
          break
        end
      end
    end
  end
  if news(m) then
    at(NOW + @NEWS_AGAIN)
  elseif m.po == 1 then
    at(offline_at(m))
  end
  put(m, 'due', least)
end

local function sweep(m)
  local exits = m.xh
  expire(m, @EXPIRIES)
  forget_ids(m)
  local had_holder = m.hd ~= ''
  if not had_holder then
    load_sessions(m)
    local now_active = activate_next(m, liveness)
    if now_active then table.insert(activated, now_active) end
  end
  local grew = m.xh > exits
  for _, time in pairs(waiting(m)) do grew = grew or time <= NOW end
  local held = holder(m)
  if had_holder and grew and held and not liveness.gone[held.incarnation] then
    table.insert(grown, {holder = m.hd, heads = heads(m)})
  end
  reckon_due(m)
  local found = news(m)
  if found then table.insert(told, found) end
  save(m)
end

for i, gone in ipairs(q.gone) do
  local key = 'inc:' .. TAG .. ':' .. gone
  -- By this server's clock, which is the one that let sessions be opened here.
  local ended = q.ends[i] <= NOW
  local names = ended and call('SRANDMEMBER', key, math.max(q.limit - handled, 0)) or {}
  for _, k in ipairs(names) do
    local m = load(k)
    load_sessions(m)
    end_sessions_of_the_gone(m, liveness)
    local now_active = activate_next(m, liveness)
    if now_active then table.insert(activated, now_active) end
    call('SREM', key, k)
    save(m)
    handled = handled + 1
  end
  if call('EXISTS', key) == 1 then table.insert(left, gone) end
end

local more = false
if handled < q.limit then
  local due = call('ZRANGEBYSCORE', 'due:' .. TAG, '-inf', NOW, 'LIMIT', 0, q.limit - handled)
  for _, k in ipairs(due) do
    -- One damaged mailbox must not keep the others from their due.
    local done, failure = pcall(function()
      local m = load(k)
      sweep(m)
      more = more or m.due ~= 0 and m.due <= NOW
    end)
    if not done then
      redis.log(redis.LOG_WARNING, 'cannot sweep ' .. k .. ': ' .. (failure.err or tostring(failure)))
      call('ZADD', 'due:' .. TAG, NOW + 60000, k)
    end
    handled = handled + 1
  end
end

local function filled(list) return #list > 0 and list or nil end
return cjson.encode({handled = handled, more = more, activated = filled(activated), grown = filled(grown), left = filled(left),
  news = filled(told)})

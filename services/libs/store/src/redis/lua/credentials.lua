-- Credentials. KEYS[1] is `a:{a}`. `marks` holds, for keys, orchestrators and organizations, the cursor of their last
-- revocation: a login that began before it is revoked, so no index of logins is needed.
local BASE = KEYS[1] .. ':'

local function cursor() return tonumber(call('GET', BASE .. 'cursor') or 0) end

local function is_revoked(kind, id)
  return kind == 'keys' and call('SISMEMBER', BASE .. 'revoked_keys', id) == 1
end

-- Status, creation and last change of an orchestrator; '' for what is not there.
local function state_of(id)
  return {
    call('HGET', BASE .. 'statuses', id) or '', call('HGET', BASE .. 'created', id) or '',
    call('HGET', BASE .. 'updated', id) or '',
  }
end

local function login(id)
  local fields = call('HMGET', BASE .. 'login:' .. id, 'record', 'counter', 'rotated', 'born', 'ended', 'marks')
  if not fields[1] then return nil end
  local known = {
    record = fields[1], counter = tonumber(fields[2]), rotated = tonumber(fields[3]), ended = fields[5] == '1',
  }
  for mark in string.gmatch(fields[6], '%S+') do
    local since = tonumber(call('HGET', BASE .. 'marks', mark) or 0)
    known.ended = known.ended or since > tonumber(fields[4])
  end
  return known
end

-- Marks: what the revocation ends beside the login named, if one is.
local function revoke(entry, marks, ended)
  -- Time keeps the cursor ahead of what anybody has seen, even after a loss.
  local at = math.max(cursor() + 1, NOW)
  call('SET', BASE .. 'cursor', at)
  if ended and call('EXISTS', BASE .. 'login:' .. ended) == 1 then
    call('HSET', BASE .. 'login:' .. ended, 'ended', 1)
  end
  for mark in string.gmatch(marks, '%S+') do call('HSET', BASE .. 'marks', mark, at) end
  call('XADD', BASE .. 'log', string.format('%d-0', at), 'v', entry, 'at', NOW)
end

-- Takes reports in. ARGV: the reports. Answers for each what it has changed: 1 the status, 2 the presence, 3 both.
local answer = {}

-- Keeps a word and the text that goes with it; answers whether that is news.
local function say(key, name, word, text_name, text)
  local old = call('HMGET', key, name, text_name)
  if old[1] == word and (old[2] or '') == text then return false end
  call('HSET', key, name, word, text_name, text)
  return true
end

for _, one in ipairs(cjson.decode(ARGV[1])) do
  local key = key_of(one.mailbox, 'n')
  if one.heartbeat then call('HSET', key, 'heartbeat', NOW) end
  local status = one.status and say(key, 'status', one.status, 'message', one.message or '')
  local presence = one.presence and say(key, 'presence', one.presence, 'presence_text', one.presence_text or '')
  table.insert(answer, (status and 1 or 0) + (presence and 2 or 0))
  if one.metrics then
    local history = key_of(one.mailbox, 'o')
    call('LPUSH', history, string.format('%.0f ', NOW) .. one.metrics)
    call('LTRIM', history, 0, @METRICS - 1)
    call('PEXPIRE', history, @METRICS_AGE)
  end
  remember(one.mailbox)
end
return answer

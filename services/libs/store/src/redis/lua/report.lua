-- Takes reports in. ARGV: the reports.
for _, one in ipairs(cjson.decode(ARGV[1])) do
  local key = key_of(one.mailbox, 'n')
  if one.heartbeat then call('HSET', key, 'heartbeat', NOW) end
  if one.status then call('HSET', key, 'status', one.status, 'message', one.message or '') end
  if one.presence then call('HSET', key, 'presence', one.presence, 'presence_text', one.presence_text or '') end
  if one.metrics then
    local history = key_of(one.mailbox, 'o')
    call('LPUSH', history, string.format('%.0f ', NOW) .. one.metrics)
    call('LTRIM', history, 0, @METRICS - 1)
    call('PEXPIRE', history, @METRICS_AGE)
  end
  remember(one.mailbox)
end
return 1

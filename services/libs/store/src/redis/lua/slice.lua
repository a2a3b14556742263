-- Takes from what an organization may do. KEYS[1] is `m:{pNNNN}`. ARGV: organization, rate a second, how many are wanted.
-- Answers how many it gets, and if none when there is one, in milliseconds. Parts are thousandths.
local key = 'q:' .. string.sub(KEYS[1], 3) .. ':' .. ARGV[1]
local rate, wanted = tonumber(ARGV[2]), tonumber(ARGV[3])
local most = rate * 1000 * @BURST_SECONDS
local known = call('HMGET', key, 'parts', 'at')
local parts, at = tonumber(known[1] or most), tonumber(known[2] or NOW)
parts = math.min(parts + math.max(NOW - at, 0) * rate, most)
local granted = math.min(math.floor(parts / 1000), wanted)
parts = parts - granted * 1000
call('HSET', key, 'parts', string.format('%.0f', parts), 'at', math.max(at, NOW))
call('PEXPIRE', key, @BURST_SECONDS * 2000)
local lacking = granted == 0 and 1000 - math.min(parts, 1000) or 0
return {granted, math.ceil(lacking / math.max(rate, 1))}

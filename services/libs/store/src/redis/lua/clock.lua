-- What every script begins with. The last argument is the moment in milliseconds, empty for this server's clock.
local call = redis.call

local function moment()
  local given = ARGV[#ARGV]
  if given ~= '' then return tonumber(given) end
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local NOW = moment()

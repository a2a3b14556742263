-- Gateways by their incarnations: a hash of `end of the lease, 1 if draining, address`. KEYS[1] is that hash.
local function lease(text)
  local ends, draining, address = string.match(text, '^(%d+) (%d) (.*)$')
  return tonumber(ends), draining, address
end

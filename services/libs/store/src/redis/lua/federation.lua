-- Registries and delegations of organizations, in their partitions. Keys of one organization: `o` registrations by id, each
-- its slots, a space and JSON; `s` what each said last and `t` what was told of it, JSON; `n` counts changes of the registry
-- and `v` has ids by the change that touched them last; `h:<orchestrator>` delegations that take its slots; `d:<delegation>`
-- version, holder, place in the order and JSON; `c:<delegation>` its context by name; `l` the order in which they were made.
-- For the partition: `due` delegations by the moment at which somebody must look, `registries` organizations in which
-- somebody is registered.
local DUE, WITH_REGISTRY = 'r:' .. TAG .. ':due', 'r:' .. TAG .. ':registries'

local function base_of(organization) return 'r:' .. TAG .. ':' .. organization .. ':' end

local function touch(base, orchestrator)
  call('ZADD', base .. 'v', call('INCR', base .. 'n'), orchestrator)
end

local function release(base, orchestrator, id)
  call('SREM', base .. 'h:' .. orchestrator, id)
  touch(base, orchestrator)
end

local function has_slot(base, orchestrator)
  local registered = call('HGET', base .. 'o', orchestrator)
  return registered and call('SCARD', base .. 'h:' .. orchestrator) < tonumber(string.match(registered, '^%d+'))
end

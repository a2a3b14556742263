-- What a login or a message asks about its addressee. ARGV: organization, id. Answers the records of the organization,
-- its settings and the orchestrator, then the orchestrator's state; '' for what is not there.
local organization, id = ARGV[1], ARGV[1] .. '/' .. ARGV[2]
local state = state_of(id)
return {
  call('HGET', BASE .. 'organizations', organization) or '', call('HGET', BASE .. 'settings', organization) or '',
  call('HGET', BASE .. 'orchestrators', id) or '', state[1], state[2], state[3],
}

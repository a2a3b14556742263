-- Delegations that take slots of an orchestrator. ARGV: organization, id.
return call('SMEMBERS', base_of(ARGV[1]) .. 'h:' .. ARGV[2])

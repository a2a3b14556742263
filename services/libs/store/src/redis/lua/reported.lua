-- What is kept of an orchestrator's words. ARGV: mailbox. Answers the fields, then the metrics, newest first, and the moment.
local fields = call('HMGET', key_of(ARGV[1], 'n'), unpack(FIELDS))
for i = 1, #FIELDS do fields[i] = fields[i] or '' end
return {fields, call('LRANGE', key_of(ARGV[1], 'o'), 0, -1), NOW}

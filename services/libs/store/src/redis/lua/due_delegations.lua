-- Delegations of the partition that are due, at most so many. ARGV: how many. Answers when and which of each.
return call('ZRANGEBYSCORE', DUE, '-inf', NOW, 'WITHSCORES', 'LIMIT', 0, ARGV[1])

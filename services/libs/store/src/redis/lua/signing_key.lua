-- Keeps a signing key unless there is one. ARGV: key. Answers the one that is kept.
call('SET', BASE .. 'signing', ARGV[1], 'NX')
return call('GET', BASE .. 'signing')

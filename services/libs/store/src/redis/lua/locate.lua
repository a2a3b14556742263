-- The mailbox of a session, or ''. ARGV: session.
return call('HGET', 'ses:' .. TAG, ARGV[1]) or ''

-- Revokes. ARGV: entry of the log, marks, login or '', key or ''.
revoke(ARGV[1], ARGV[2], ARGV[3] ~= '' and ARGV[3])
if ARGV[4] ~= '' and call('HEXISTS', BASE .. 'keys', ARGV[4]) == 1 then
  call('SADD', BASE .. 'revoked_keys', ARGV[4])
end
return 1

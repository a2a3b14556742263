-- Begins a login. ARGV: id, record, counter, moment of its rotation, 1 if ended, its marks, how long it is kept.
-- Answers 1, or 0 if one of that id has other content.
local key, known = BASE .. 'login:' .. ARGV[1], login(ARGV[1])
if known then
  local same = known.record == ARGV[2] and known.counter == tonumber(ARGV[3])
    and known.rotated == tonumber(ARGV[4]) and known.ended == (ARGV[5] == '1')
  return same and 1 or 0
end
call('HSET', key, 'record', ARGV[2], 'counter', ARGV[3], 'rotated', ARGV[4], 'ended', ARGV[5], 'marks', ARGV[6],
  'born', cursor())
call('PEXPIRE', key, ARGV[7])
return 1

-- Notes where subscribers are. ARGV: incarnation, its address, then organizations, each with 1 or 0. Answers the extents.
local answer = {}
for at = 3, #ARGV - 1, 2 do
  local f = load_feed(ARGV[at])
  if ARGV[at + 1] == '1' then
    call('HSET', f.base .. 'i', ARGV[1], ARGV[2])
  else
    call('HDEL', f.base .. 'i', ARGV[1])
  end
  answer[#answer + 1] = extent(f)
end
return answer

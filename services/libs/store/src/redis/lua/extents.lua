-- How far feeds reach. ARGV: organizations.
local answer = {}
for at = 1, #ARGV - 1 do answer[at] = extent(load_feed(ARGV[at])) end
return answer

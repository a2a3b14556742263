-- A login. ARGV: id. Answers record, counter, rotation, 1 if it has ended; or nothing.
local known = login(ARGV[1])
if not known then return {} end
return {known.record, known.counter, known.rotated, known.ended and 1 or 0}

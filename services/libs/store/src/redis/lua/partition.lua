-- What every script of a partition begins with. KEYS[1] is `m:{pNNNN}` and names it.
local TAG = string.sub(KEYS[1], 3)

-- This life of the store. Neither id is enough alone: a node that was demoted and promoted again keeps its
-- run id, and a restart that lost data can keep the replication id.
local function incarnation()
  local replication = string.match(call('INFO', 'replication'), 'master_replid:(%x+)')
  return string.sub(RUN, 1, 20) .. string.sub(replication, 1, 20)
end

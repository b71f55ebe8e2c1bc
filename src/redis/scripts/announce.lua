-- A node tells which subscribers it has. What it says is void after a while, so that a node that dies is gone from all sums.
--
-- KEYS  1 what the nodes have announced: a hash by node of "time:announcement"
-- ARGV  1 name of the node   2 milliseconds that this is true   3 the announcement, empty for "none any more"
-- Reply announcements that are not void, this one included
local id, refusal = replication_id()
if not id then return refusal end
local now = tonumber(clock())
local all, void, valid = redis.call('HGETALL', KEYS[1]), {}, {}
for i = 1, #all, 2 do
  local ends = tonumber(string.match(all[i + 1], '^(%d+):') or '0')
  if all[i] ~= ARGV[1] then
    if ends <= now then void[#void + 1] = all[i] else valid[#valid + 1] = all[i + 1] end
  end
end
if ARGV[3] == '' then
  void[#void + 1] = ARGV[1]
else
  local own = string.format('%.0f', now + tonumber(ARGV[2])) .. ':' .. ARGV[3]
  redis.call('HSET', KEYS[1], ARGV[1], own)
  valid[#valid + 1] = own
end
-- In portions: unpack() has a limit.
for i = 1, #void, 100 do redis.call('HDEL', KEYS[1], unpack(void, i, math.min(i + 99, #void))) end
-- The key lives as long as the announcement that is true longest: nobody else would remove it.
if ARGV[3] ~= '' and redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return valid

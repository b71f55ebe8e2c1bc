-- A node tells which subscribers it has. What it says is void after a while, so that a node that dies is gone from all sums.
--
-- KEYS  1 how many subscribers the nodes have: see nodes.lua
--       2 who they are: a hash by node of texts that mean nothing to the server; one is true as long as the node's count is
--       3 the channel's hash, see publish.lua: q is the time when a subscriber was last known of
--       Where the channel's group is counted: 4 how many subscribers the nodes have of the group, as 1   5 the group's hash: see group.lua
-- ARGV  1 name of the node   2 milliseconds that this is true   3 the count, empty for "none any more"
--       4, but where the group is counted 5: who they are, empty for nobody; absent where that has not changed
--       Where the group is counted: 4 how many subscribers the node has of all of the group's channels
-- Reply {1 if the server knows who the node's subscribers are, else 0; the group's own limit of subscribers, or nil; announcements that are
--       not void, this one included ...}
local id, refusal = replication_id()
if not id then return refusal end
local now = tonumber(clock())
local who = ARGV[KEYS[4] and 5 or 4]
local known, was = announce(KEYS[1], KEYS[2], ARGV[1], ARGV[3], now, ARGV[2])
if ARGV[3] ~= '' then
  if who == '' then redis.call('HDEL', KEYS[2], ARGV[1]) elseif who then redis.call('HSET', KEYS[2], ARGV[1], who) end
  outlive(KEYS[2], ARGV[2])
end
if (was or ARGV[3] ~= '') and redis.call('HGET', KEYS[3], 'e') then
  -- Only for those who ask, and refused where memory is short.
  redis.pcall('HSET', KEYS[3], 'q', string.format('%.0f', now))
end
local reply = {redis.call('HGET', KEYS[2], ARGV[1]) and 1 or 0, false}
if KEYS[4] then
  announce(KEYS[4], nil, ARGV[1], ARGV[4] == '0' and '' or ARGV[4], now, ARGV[2])
  reply[2] = redis.call('HGET', KEYS[5], 'S')
end
for i = 1, #known do reply[i + 2] = known[i] end
return reply

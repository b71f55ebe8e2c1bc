-- A node tells which subscribers it has. What it says is void after a while, so that a node that dies is gone from all sums.
--
-- KEYS  1 how many subscribers the nodes have: a hash by node of "time:count"
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
local all, void, reply, was = redis.call('HGETALL', KEYS[1]), {}, {0, false}, false
local who = ARGV[KEYS[4] and 5 or 4]
for i = 1, #all, 2 do
  local ends = tonumber(string.match(all[i + 1], '^(%d+):') or '0')
  if all[i] == ARGV[1] then
    was = true
  elseif ends <= now then
    void[#void + 1] = all[i]
  else
    reply[#reply + 1] = all[i + 1]
  end
end
if ARGV[3] == '' then
  void[#void + 1] = ARGV[1]
else
  local own = string.format('%.0f', now + tonumber(ARGV[2])) .. ':' .. ARGV[3]
  redis.call('HSET', KEYS[1], ARGV[1], own)
  reply[#reply + 1] = own
  if who == '' then redis.call('HDEL', KEYS[2], ARGV[1]) elseif who then redis.call('HSET', KEYS[2], ARGV[1], who) end
  -- A key lives as long as the announcement that is true longest: nobody else would remove it.
  for key = 1, 2 do
    if redis.call('PTTL', KEYS[key]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[key], ARGV[2]) end
  end
end
-- In portions: unpack() has a limit.
for i = 1, #void, 100 do
  local last = math.min(i + 99, #void)
  for key = 1, 2 do redis.call('HDEL', KEYS[key], unpack(void, i, last)) end
end
if (was or ARGV[3] ~= '') and redis.call('HGET', KEYS[3], 'e') then
  -- Only for those who ask, and refused where memory is short.
  redis.pcall('HSET', KEYS[3], 'q', string.format('%.0f', now))
end
if redis.call('HGET', KEYS[2], ARGV[1]) then reply[1] = 1 end
if KEYS[4] then
  local sums = redis.call('HGETALL', KEYS[4])
  for i = 1, #sums, 2 do
    local ends = tonumber(string.match(sums[i + 1], '^(%d+):') or '0')
    if ends <= now or (sums[i] == ARGV[1] and ARGV[4] == '0') then redis.call('HDEL', KEYS[4], sums[i]) end
  end
  if ARGV[4] ~= '0' then
    redis.call('HSET', KEYS[4], ARGV[1], string.format('%.0f', now + tonumber(ARGV[2])) .. ':' .. ARGV[4])
    if redis.call('PTTL', KEYS[4]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[4], ARGV[2]) end
  end
  reply[2] = redis.call('HGET', KEYS[5], 'S')
end
return reply

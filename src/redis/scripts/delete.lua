-- Deletes a channel and tells the nodes that listen.
--
-- KEYS  1 and 2 as in publish.lua   3 what the nodes have announced
--       Where the channel's group is counted: 4 to 7 as in publish.lua   8 what the nodes have announced of the group
-- ARGV  1 name of the Pub/Sub channel   2 PUBLISH, or SPUBLISH in a cluster
--       Where the group is counted: 3 what the names of its channels begin with   4 the channel's name behind that
-- Reply as of info.lua, of what the channel was

-- Its subscribers are none of the group any more, which the nodes say of themselves when they announce the next time.
local function leave_group(nodes, announced)
  local all = redis.call('HGETALL', announced)
  for i = 1, #all, 2 do
    local count = tonumber(string.match(all[i + 1], ':(%d+)$') or '0')
    local ends, sum = string.match(redis.call('HGET', nodes, all[i]) or '', '^(%d+):(%d+)$')
    if ends and tonumber(sum) > count then
      redis.call('HSET', nodes, all[i], ends .. ':' .. string.format('%.0f', tonumber(sum) - count))
    elseif ends then
      redis.call('HDEL', nodes, all[i])
    end
  end
end

local id, refusal = replication_id()
if not id then return refusal end
local hash = redis.call('HMGET', KEYS[2], 'e', 'o', 'q', 'l')
local entries = redis.call('XLEN', KEYS[1])
local announced, now = redis.call('HVALS', KEYS[3]), clock()
local messages = hash[2] and unexpired(KEYS[1], hash[2], hash[4], now) or entries
if KEYS[4] then
  -- What cannot be written is found by the next look.
  pcall(function()
    local group = open_group(KEYS[4], KEYS[5], KEYS[6], ARGV[3], now)
    if used(group, ARGV[4]) then
      forget_use(group, ARGV[4])
      save_group(group)
    end
    redis.call('DEL', KEYS[7])
    leave_group(KEYS[8], KEYS[3])
  end)
end
if not hash[1] and entries == 0 then return {false, '0', 0, announced, now, '0'} end
redis.call('DEL', KEYS[1], KEYS[2])
redis.pcall(ARGV[2], ARGV[1], 'deleted:' .. (hash[1] or '0'))
return {hash[1], hash[2] or '0', messages, announced, now, hash[3] or '0'}

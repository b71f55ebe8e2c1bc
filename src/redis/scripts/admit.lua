-- Whether a channel may be subscribed to that the node has no copy of. One that is not there yet begins, if its group may have another one.
--
-- KEYS  1 and 2 as in publish.lua
--       Where the channel's group is counted: 3 the group's hash   4 due   5 uses: see group.lua
-- ARGV  1 an epoch, drawn at random for this call   2 milliseconds that a channel lives which begins   3 1 if one may begin, else 0
--       Where the group is counted: 4 what the names of its channels begin with   5 the channel's name behind that
--       6 how many channels the group may have, 0 for any number
-- Reply 1 for yes, 0 where the group has as many channels as it may have, -1 where nobody has published and none may begin
local id, refusal = replication_id()
if not id then return refusal end
local hash = redis.call('HMGET', KEYS[2], 'e', 'o')
local entries = redis.call('XLEN', KEYS[1])
if ARGV[3] == '0' and entries == 0 and (hash[2] or '0') == '0' then return -1 end
if ARGV[3] == '0' or hash[1] or entries > 0 or not KEYS[3] then return 1 end
local group = open_group(KEYS[3], KEYS[4], KEYS[5], ARGV[4], clock())
-- It has expired if it is known.
if used(group, ARGV[5]) then forget_use(group, ARGV[5]) end
if not allows(group, {ARGV[6]}, 1, 0, 0) then
  look_closely(group)
  if not allows(group, {ARGV[6]}, 1, 0, 0) then
    save_group(group)
    return 0
  end
end
redis.call('ZADD', KEYS[4], '0', ARGV[5])
redis.call('HSET', KEYS[2], 'e', ARGV[1], 'o', '0', 'r', id, 'b', '0')
redis.call('PEXPIRE', KEYS[2], ARGV[2])
note_use(group, ARGV[5], {messages = 0, octets = 0, age = 0, ends = group.now + tonumber(ARGV[2])})
save_group(group)
return 1

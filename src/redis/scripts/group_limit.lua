-- Changes the limits that a group has of its own.
--
-- KEYS  1 the group's hash   2 due   3 uses: see group.lua
-- ARGV  for each limit that changes its name in the hash, and its value, empty where the group is to have none of its own
-- Reply 1
local id, refusal = replication_id()
if not id then return refusal end
for i = 1, #ARGV, 2 do
  if ARGV[i + 1] ~= '' then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
end
for i = 1, #ARGV, 2 do
  if ARGV[i + 1] == '' then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
save_group(open_group(KEYS[1], KEYS[2], KEYS[3], '', clock()))
return 1

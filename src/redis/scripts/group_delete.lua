-- Deletes some of the channels of a group, tells the nodes that listen, and with the last of them takes back the limits of the group. To be called
-- until none is left, so that the server is not held up for long.
--
-- KEYS  1 the group's hash   2 due   3 uses: see group.lua   4 what the nodes have announced of the group
-- ARGV  1 what the names of its channels begin with   2 what the names of their Pub/Sub channels end with   3 channels that are deleted
--       at most
-- Reply channels that are left
local id, refusal = replication_id()
if not id then return refusal end
local group = open_group(KEYS[1], KEYS[2], KEYS[3], ARGV[1], clock())
verify_group(group)
for _, member in ipairs(redis.call('ZRANGE', KEYS[2], 0, tonumber(ARGV[3]) - 1)) do
  local begin = ARGV[1] .. member .. '}'
  local epoch = redis.call('HGET', begin .. ':h', 'e') or '0'
  redis.call('DEL', begin .. ':m', begin .. ':h', begin .. ':s', begin .. ':n', begin .. ':p')
  group.has_changed = true
  forget_use(group, member)
  redis.pcall('PUBLISH', begin .. ARGV[2], 'deleted:' .. epoch)
end
if group.channels > 0 then
  save_group(group)
else
  redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
end
return whole(group.channels)
